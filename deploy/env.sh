# shellcheck shell=bash
# Shared by building and testing: one target folder, one set of build options, checks of the
# machine. Sourced by deploy/run.sh, tests/run.sh and .ci/run, after `set -euo pipefail`.

CACHE_DIRECTORY=${XDG_CACHE_HOME:-$HOME/.cache}/drystone

# One folder for all builds on a machine: RocksDB's C++ takes most of a first build.
export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$CACHE_DIRECTORY/target}

# The Reed-Solomon code is compiled for what every CPU of an architecture has, so that the binary
# runs elsewhere too. .cargo/config.toml says the same for x86-64 when cargo is run by hand.
case $(uname -m) in
  aarch64 | arm64) default_arch=armv8-a ;;
  *) default_arch=x86-64-v2 ;;
esac
export RUST_REED_SOLOMON_ERASURE_ARCH=${RUST_REED_SOLOMON_ERASURE_ARCH:-$default_arch}

FIRST_BUILD="First build: 10 to 20 minutes on two cores, much of it for RocksDB's C++."

say() { printf '%s\n' "$*"; }

die() {
  printf '%s\n' "$*" >&2
  exit 1
}

# shellcheck source=deploy/checks.sh
. deploy/checks.sh
# shellcheck source=deploy/rocksdb.sh
. deploy/rocksdb.sh

elapsed() { printf '%02d:%02d' $((SECONDS / 60)) $((SECONDS % 60)); }

# Puts the elapsed time before each line, and reports now and then that a long step still runs.
with_elapsed() {
  local line status
  while true; do
    if IFS= read -r -t 30 line; then
      printf '[%s] %s\n' "$(elapsed)" "$line"
    else
      status=$?
      [ "$status" -gt 128 ] || return 0
      printf '[%s] still building\n' "$(elapsed)"
    fi
  done
}

# build ARGUMENT…: cargo build, with each step and the elapsed time.
build() {
  [ -e "$CARGO_TARGET_DIR/debug/.fingerprint" ] || say "$FIRST_BUILD"
  build_rocksdb
  CARGO_TERM_COLOR=never cargo build --locked "$@" 2>&1 | with_elapsed
}

[ ! -e "$(rocksdb_folder)/librocksdb.a" ] || use_rocksdb "$(rocksdb_folder)"
