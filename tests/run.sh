#!/usr/bin/env bash
# Installs what the tests need, builds, and runs every test. A client that cannot be installed is
# skipped by name; with CI=true that fails. Ends with `N passed, N failed`.
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.."
# shellcheck source=deploy/env.sh
. deploy/env.sh

requirements=tests/clients/requirements.txt
clients=$CACHE_DIRECTORY/clients-$(sha256sum "$requirements" | cut -c 1-12)
log=$(mktemp)
trap 'rm -f "$log"' EXIT

install_test_packages() {
  local missing=()
  command -v python3 >/dev/null || missing+=(python3)
  python3 -c 'import ensurepip, venv' 2>/dev/null || missing+=(python3-venv)
  command -v curl >/dev/null || missing+=(curl)
  # For the test that closes a terminal.
  command -v script >/dev/null || missing+=(bsdutils)
  # For disks that fail, fill up or lose data; tests of what the system forbids are skipped.
  command -v strace >/dev/null || missing+=(strace)
  command -v mkfs.ext4 >/dev/null || missing+=(e2fsprogs)
  command -v xfs_io >/dev/null || missing+=(xfsprogs)
  [ ${#missing[@]} -eq 0 ] || install_packages "${missing[@]}"
}

# The examiner's tools for breaking a server; only root can use them.
install_fault_tools() {
  [ "$(id -u)" -eq 0 ] || return 0
  local missing=()
  command -v mkfs.xfs >/dev/null && command -v xfs_io >/dev/null || missing+=(xfsprogs)
  command -v faketime >/dev/null || missing+=(faketime)
  command -v setpriv >/dev/null && command -v losetup >/dev/null || missing+=(util-linux mount)
  [ ${#missing[@]} -eq 0 ] || install_packages "${missing[@]}"
}

# Installs the pinned clients in a virtual environment, which has the file `complete` at the end.
install_clients() {
  [ ! -e "$clients/complete" ] || return 0
  say "Installing the clients of $requirements"
  rm -rf "$clients"
  python3 -m venv "$clients" || return 1
  local pip=("$clients/bin/pip" install -q --disable-pip-version-check --no-input)
  if "${pip[@]}" -r "$requirements"; then
    touch "$clients/complete"
    return 0
  fi
  # A client that can't be installed must not prevent the others.
  local requirement
  while IFS= read -r requirement; do
    "${pip[@]}" "$requirement" || say "not installed: $requirement"
  done <"$requirements"
  return 1
}

# One test per core runs at a time, and each test's store has at least four databases.
allow_open_files() {
  local enough=65536 each=64 hard cores
  hard=$(ulimit -H -n)
  [ "$hard" != unlimited ] && [ "$hard" -lt $enough ] || hard=$enough
  [ "$(ulimit -S -n)" = unlimited ] || [ "$(ulimit -S -n)" -ge "$hard" ] || ulimit -S -n "$hard"
  cores=$(nproc)
  if [ -z "${RUST_TEST_THREADS:-}" ] && [ $((cores * each)) -gt "$hard" ]; then
    export RUST_TEST_THREADS=$((hard / each > 0 ? hard / each : 1))
  fi
}

# summary: adds up the counts of the test programs.
summary() {
  awk '/^test result:/ { passed += $4; failed += $6 }
    END { printf "%d passed, %d failed\n", passed, failed }' "$log"
}

check_machine "$DISK_MIB_TESTS"
setup=0
install_test_packages || setup=1
[ "$setup" -ne 0 ] || install_clients || setup=1
if [ "$setup" -ne 0 ]; then
  [ "${CI:-}" != true ] || die "The clients cannot be installed, and CI skips nothing."
  say "Not every client could be installed; their tests are skipped by name."
fi

install_fault_tools || say "Not every fault can be had here; its tests are skipped by name."

allow_open_files
say "Building"
build --workspace --tests
status=0
DRYSTONE_TEST_CLIENTS=$clients cargo test --locked --workspace --no-fail-fast "$@" 2>&1 |
  tee "$log" || status=$?
grep '^skipped: ' "$log" | sort -u || true
summary
exit "$status"
