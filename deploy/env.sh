# shellcheck shell=bash
# Shared by building and testing: one target folder, one set of build options, and the packages
# that a build needs. Sourced by deploy/run.sh, tests/run.sh and .ci/run, after `set -euo pipefail`.

RUST_MINIMUM=1.95
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

say() { printf '%s\n' "$*"; }

die() {
  printf '%s\n' "$*" >&2
  exit 1
}

require_linux() {
  [ "$(uname -s)" = Linux ] || die "Drystone runs on Linux; this is $(uname -s)."
}

# Stops with the line to run when cargo is missing or too old.
require_cargo() {
  local rustup='curl --proto =https --tlsv1.2 -sSf https://sh.rustup.rs | sh'
  command -v cargo >/dev/null || [ ! -x "$HOME/.cargo/bin/cargo" ] || PATH=$HOME/.cargo/bin:$PATH
  if ! command -v cargo >/dev/null; then
    die "Rust is not installed. Run this, open a new shell and start again:
  $rustup"
  fi
  local version
  version=$(cargo --version | awk '{ print $2 }')
  if [ "$(printf '%s\n' "$RUST_MINIMUM" "$version" | sort -V | head -n 1)" != "$RUST_MINIMUM" ]; then
    local line=$rustup
    ! command -v rustup >/dev/null || line='rustup update stable'
    die "cargo is $version; Drystone needs $RUST_MINIMUM or newer. Run this and start again:
  $line"
  fi
}

# Succeeds if the library that bindgen loads is here: libclang itself, with everything it needs.
# LLVM's runtime includes another library, libclang-cpp.so, which is not enough.
have_libclang() {
  local file
  while IFS= read -r file; do
    if [[ ${file##*/} =~ ^libclang(-[0-9.]+)?\.so(\.[0-9.]+)?$ ]] && [ -e "$file" ] &&
      ! ldd "$file" 2>&1 | grep -q 'not found'; then
      return 0
    fi
  done < <(
    # Each may find nothing, and ldconfig is not in every user's PATH.
    { PATH=$PATH:/usr/sbin:/sbin ldconfig -p 2>/dev/null || true; } |
      awk '/libclang/ { print $NF }'
    compgen -G '/usr/lib/llvm-*/lib/libclang*.so*' || true
    [ -z "${LIBCLANG_PATH:-}" ] || compgen -G "$LIBCLANG_PATH/libclang*.so*" || true
  )
  return 1
}

# Succeeds if g++ compiles the C++ of RocksDB.
have_cpp20() {
  printf '#include <string>\n#include <span>\nint main() { std::span<int> s; return s.size(); }\n' |
    g++ -std=c++20 -x c++ -fsyntax-only - 2>/dev/null
}

# install_packages PACKAGE…: says what it does, and asks for sudo when it isn't root.
install_packages() {
  local as_root=()
  if [ "$(id -u)" -ne 0 ]; then
    command -v sudo >/dev/null || die "Missing: $*. As root, run: apt-get install $*"
    as_root=(sudo)
  fi
  command -v apt-get >/dev/null || die "Missing: $*. Install them with this system's own tool."
  say "Installing missing packages: $*${as_root[*]:+ (sudo may ask for your password)}"
  "${as_root[@]}" apt-get update -q
  "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends "$@"
}

# Installs the packages for compiling RocksDB, its bindings and AWS-LC.
install_build_packages() {
  local missing=()
  command -v gcc >/dev/null || missing+=(gcc)
  command -v g++ >/dev/null || missing+=(g++)
  command -v make >/dev/null || missing+=(make)
  command -v cmake >/dev/null || missing+=(cmake)
  have_libclang || missing+=(libclang-dev)
  [ -e /usr/include/stdlib.h ] || missing+=(libc6-dev)
  [ ${#missing[@]} -eq 0 ] || install_packages "${missing[@]}"
  # Reported now and not after ten minutes of building.
  have_libclang || die "libclang cannot be loaded. Install the package libclang-dev (clang-devel)."
  have_cpp20 || die "$(g++ --version | head -n 1) cannot compile C++20. Install g++ 11 or newer."
}

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
  [ -e "$CARGO_TARGET_DIR/debug/.fingerprint" ] ||
    say "First build: 15 to 25 minutes on two cores, most of it RocksDB's C++."
  CARGO_TERM_COLOR=never cargo build --locked "$@" 2>&1 | with_elapsed
}
