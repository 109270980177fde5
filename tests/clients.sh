#!/usr/bin/env bash
# Drives the server with every client there is a round for, those too that are too large for
# tests/run.sh, and writes the table of README.md anew. What can't be installed here is said by name.
# With names of rounds as arguments, runs only those and leaves README.md alone.
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.."
# shellcheck source=deploy/env.sh
. deploy/env.sh

tools=$CACHE_DIRECTORY/more-clients
bin=$tools/bin
trixie=$tools/trixie
failed=()

# attempt WHAT COMMAND…: runs the command once for all times; what fails is skipped by name.
attempt() {
  local what=$1 mark=$tools/$1.done
  shift
  [ ! -e "$mark" ] || return 0
  say "Installing: $what"
  if "$@" >"$tools/$what.log" 2>&1; then
    touch "$mark"
  else
    say "not installed: $what ($tools/$what.log)"
    failed+=("$what")
  fi
}

python_clients() {
  python3 -m venv "$tools/python" &&
    "$tools/python/bin/pip" install -q --disable-pip-version-check --no-input -r tests/clients/more.txt
}

# The ones of tests/run.sh, at their versions.
pinned_clients() {
  python3 -m venv "$tools/pinned" &&
    "$tools/pinned/bin/pip" install -q --disable-pip-version-check --no-input -r tests/clients/requirements.txt
}

node_clients() {
  mkdir -p "$tools/node" && cp tests/clients/package.json "$tools/node/" &&
    npm install --prefix "$tools/node" --no-audit --no-fund
}

tofu() {
  mkdir -p "$tools/tofu" && cp tests/clients/tofu/* "$tools/tofu/" &&
    (cd "$tools/tofu" && export GOFLAGS=-mod=mod && go mod tidy &&
      go build -o "$bin/tofu" github.com/opentofu/opentofu/cmd/tofu)
}

# Debian's own packages of a release that has them, unpacked beside this system.
debian() {
  [ "$(id -u)" -eq 0 ] || { say "needs root"; return 1; }
  command -v debootstrap >/dev/null || install_packages debootstrap
  rm -rf "$trixie"
  debootstrap --variant=minbase trixie "$trixie" &&
    chroot "$trixie" env DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends \
      awscli ca-certificates docker-registry minio-client restic
}

# loader NAME WORD…: a command that runs a program of the unpacked Debian with its own libraries.
loader() {
  local name=$1
  shift
  printf '#!/bin/sh\nexec %s/lib64/ld-linux-x86-64.so.2 --library-path %s/usr/lib/x86_64-linux-gnu %s "$@"\n' \
    "$trixie" "$trixie" "$*" >"$bin/$name"
  chmod +x "$bin/$name"
}

require_linux
require_cargo
install_build_packages
mkdir -p "$bin" "$tools/v2"
attempt pinned pinned_clients
attempt python python_clients
attempt node node_clients
attempt tofu tofu
attempt debian debian
if [ -e "$tools/debian.done" ]; then
  loader restic "$trixie/usr/bin/restic"
  loader docker-registry "$trixie/usr/bin/docker-registry"
  loader mc "$trixie/usr/bin/minio-client"
  loader aws "$trixie/usr/bin/python3" "$trixie/usr/bin/aws"
  sed -i "s|^exec|PYTHONHOME=$trixie/usr exec|" "$bin/aws"
  mv "$bin/aws" "$tools/v2/aws"
fi
say "Building"
build --workspace
python3 tests/clients/matrix.py "$CARGO_TARGET_DIR/debug/drystone" "$tools" "$@"
[ ${#failed[@]} -eq 0 ] || say "not installed: ${failed[*]}"
