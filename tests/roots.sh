#!/usr/bin/env bash
# Runs both commands of the README in clean systems: roots of Debian and Ubuntu that hold what a
# minimal image holds, once as root and once as a user with sudo, from nothing to green. A system
# whose mirror cannot be reached is skipped by name. Only root can run it. The last result is in
# tests/FULL.md.
#
#   tests/roots.sh                        all systems, both commands
#   tests/roots.sh bookworm               one of them
#   STEPS=checks tests/roots.sh           up to the checks of the machine: no build
#   STEPS=server tests/roots.sh           up to a server that answers: no tests
#   RUST=rustup tests/roots.sh            Rust as a new user gets it, and not this machine's
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.."
# shellcheck source=deploy/env.sh
. deploy/env.sh

STEPS=${STEPS:-all}
RUST=${RUST:-mounted}
place=${ROOTS:-$CACHE_DIRECTORY/roots}
systems=("$@")
[ ${#systems[@]} -gt 0 ] || systems=(bookworm trixie noble)
results=() status=0

mirror_of() {
  case $1 in
    noble | jammy) say http://archive.ubuntu.com/ubuntu ;;
    *) say http://deb.debian.org/debian ;;
  esac
}

# The minimal image, packed, so that each run starts from nothing.
image() {
  local system=$1
  [ ! -e "$place/$system.tar" ] || return 0
  mmdebstrap --quiet --variant=minbase "$system" "$place/$system.tar.part" "$(mirror_of "$system")" &&
    mv "$place/$system.tar.part" "$place/$system.tar"
}

# unpack SYSTEM ROOT: a fresh root with the tree as committed, and with what this machine knows of its
# network: names, and certificates of its own, which count once ca-certificates is installed.
unpack() {
  rm -rf --one-file-system "$2"
  mkdir -p "$2/opt/rust" "$2/srv/drystone"
  tar -xpf "$place/$1.tar" -C "$2"
  cp -L /etc/resolv.conf /etc/hosts "$2/etc/"
  [ -z "${SSL_CERT_FILE:-}" ] ||
    install -D -m 644 "$SSL_CERT_FILE" "$2/usr/local/share/ca-certificates/this-machine.crt"
  git archive HEAD | tar -x -C "$2/srv/drystone"
}

# What runs inside, as the user named. The steps are the README's.
steps() {
  cat <<'END'
set -euo pipefail
cd ~/drystone
. deploy/env.sh
check_machine "$DISK_MIB_BUILD"
[ "$STEPS" != checks ] || exit 0
PORT=9123 deploy/run.sh >server.log 2>&1 &
server=$!
start=$SECONDS
until grep -q '^Drystone serves S3' server.log; do
  kill -0 "$server" 2>/dev/null || { cat server.log; exit 1; }
  sleep 2
done
printf 'ready after %s s\n' $((SECONDS - start))
exec 3<>/dev/tcp/127.0.0.1/9123
printf 'GET / HTTP/1.1\r\nHost: 127.0.0.1:9123\r\nConnection: close\r\n\r\n' >&3
grep -m 1 '^HTTP/1.1 403' <&3
kill -INT "$server"
wait "$server" || true
du -sh "$CARGO_TARGET_DIR" "$CACHE_DIRECTORY" "${CARGO_HOME:-$HOME/.cargo}"
[ "$STEPS" != server ] || exit 0
tests/run.sh
printf 'tests ended after %s s\n' $((SECONDS - start))
END
}

# Makes the user, with sudo that asks nothing, and the folder that the steps run in.
prepare() {
  local root=$1 who=$2
  if [ "$who" = person ]; then
    chroot "$root" apt-get update -q
    chroot "$root" env DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends sudo
    chroot "$root" useradd --create-home --shell /bin/bash person
    printf 'person ALL=(ALL) NOPASSWD: ALL\n' >"$root/etc/sudoers.d/person"
    mv "$root/srv/drystone" "$root/home/person/drystone"
    chroot "$root" chown -R person: /home/person/drystone
  else
    mv "$root/srv/drystone" "$root/root/drystone"
  fi
  if [ "$RUST" = rustup ]; then
    chroot "$root" apt-get update -q
    chroot "$root" apt-get install -y -q curl ca-certificates
    chroot "$root" su - "$who" -c 'curl --proto =https --tlsv1.2 -sSf https://sh.rustup.rs | sh -s -- -y'
  fi
}

# inside ROOT USER: in a mount namespace of its own, which takes its mounts with it.
inside() {
  local root=$1 who=$2 path=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
  steps >"$root/srv/steps"
  # shellcheck disable=SC2016
  unshare --mount --pid --fork --kill-child bash -euc '
    mount -t proc proc "$1/proc"
    mount --rbind /sys "$1/sys"
    mount --rbind /dev "$1/dev"
    [ "$5" = rustup ] || mount --bind -o ro "$(rustc --print sysroot)" "$1/opt/rust"
    exec chroot "$1" /usr/bin/env -i STEPS="$4" TERM=dumb su -w STEPS - "$2" -c \
      "export PATH=/opt/rust/bin:\$HOME/.cargo/bin:$3; bash /srv/steps"
  ' inside "$root" "$who" "$path" "$STEPS" "$RUST"
}

# run SYSTEM USER
run() {
  local root=$place/$1-$2 start=$SECONDS result
  say "== $1 as $2"
  unpack "$1" "$root"
  if prepare "$root" "$2" && inside "$root" "$2"; then
    result=passed
    rm -rf --one-file-system "$root"
  else
    result="failed; its root is kept: $root"
    status=1
  fi
  results+=("$1 as $2, $STEPS: $result ($((SECONDS - start)) s)")
}

[ "$(id -u)" -eq 0 ] || die "Only root can make roots. Run: sudo tests/roots.sh"
command -v mmdebstrap >/dev/null || install_packages mmdebstrap || exit 1
mkdir -p "$place"
for system in "${systems[@]}"; do
  if image "$system"; then
    for who in root person; do run "$system" "$who"; done
  else
    results+=("skipped: $system (its mirror cannot be reached, or its key is not known here)")
  fi
done
say "Rust: $RUST"
printf '%s\n' "${results[@]}"
exit "$status"
