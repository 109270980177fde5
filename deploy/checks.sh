# shellcheck shell=bash
# What a build needs of a machine, checked before it starts: each failure is one sentence that says
# what to do. Sourced by deploy/env.sh.

RUST_MINIMUM=1.95
# The crates take 0.7 GiB, and what is compiled for all tests 1.3 GiB; what cargo keeps for its next
# build of the tests is as much again, and more after some changes.
DISK_MIB_BUILD=3072
DISK_MIB_TESTS=6144
# Measured: the largest of the C++ batches takes 1.4 GB.
MEMORY_MIB_COMPILER=1536
CERTIFICATES=(/etc/ssl/certs/ca-certificates.crt /etc/pki/tls/certs/ca-bundle.crt /etc/ssl/cert.pem)

require_linux() {
  [ "$(uname -s)" = Linux ] || die "Drystone runs on Linux; this is $(uname -s)."
}

# Stops with the line to run when cargo is missing, does not run, or is too old.
require_cargo() {
  local rustup='curl --proto =https --tlsv1.2 -sSf https://sh.rustup.rs | sh'
  command -v cargo >/dev/null || [ ! -x "$HOME/.cargo/bin/cargo" ] || PATH=$HOME/.cargo/bin:$PATH
  if ! command -v cargo >/dev/null; then
    if ! command -v curl >/dev/null; then
      rustup="apt-get install curl ca-certificates   (as root)
  $rustup"
    fi
    die "Rust is not installed. Run this, open a new shell and start again:
  $rustup"
  fi
  local version
  version=$(cargo --version) || die "cargo is installed but does not run. Repair it: rustup default stable"
  version=$(awk '{ print $2 }' <<<"$version")
  if [ "$(printf '%s\n' "$RUST_MINIMUM" "$version" | sort -V | head -n 1)" != "$RUST_MINIMUM" ]; then
    local line=$rustup
    ! command -v rustup >/dev/null || line='rustup update stable'
    die "cargo is $version; Drystone needs $RUST_MINIMUM or newer. Run this and start again:
  $line"
  fi
}

# The MiB free where a folder is.
free_disk_mib() { df -Pm "$1" | awk 'NR == 2 { print $4 }'; }

# check_disk MIB: there is room for a first build; a later one finds most of it done.
check_disk() {
  local free
  [ ! -e "$CARGO_TARGET_DIR/debug/drystone" ] || return 0
  mkdir -p "$CARGO_TARGET_DIR" 2>/dev/null ||
    die "$CARGO_TARGET_DIR cannot be created. Set CARGO_TARGET_DIR to a folder that can be written."
  free=$(free_disk_mib "$CARGO_TARGET_DIR")
  [ "$free" -ge "$1" ] || die "$CARGO_TARGET_DIR has $free MiB free, and the first build needs $1 MiB.\
 Free some, or set CARGO_TARGET_DIR to a folder on a larger disk."
}

# The MiB that new processes can get, from the machine or from what its container is allowed.
free_memory_mib() {
  local free limit used
  free=$(awk '/^(MemAvailable|SwapFree):/ { sum += $2 } END { print int(sum / 1024) }' /proc/meminfo)
  if limit=$(cat /sys/fs/cgroup/memory.max 2>/dev/null) && [ "$limit" != max ]; then
    used=$(awk '$1 == "anon" { print $2 }' /sys/fs/cgroup/memory.stat)
    limit=$(((limit - ${used:-0}) / 1048576))
    [ "$limit" -ge "$free" ] || free=$limit
  fi
  printf '%s\n' "$free"
}

# Runs as many compilers at once as there are cores, and as the memory is enough for.
check_memory() {
  local free jobs
  free=$(free_memory_mib)
  jobs=$((free / MEMORY_MIB_COMPILER))
  [ "$jobs" -ge 1 ] || die "$free MiB of memory are free, and a compiler of the first build needs\
 $MEMORY_MIB_COMPILER MiB. Stop other programs, or add a swap file."
  if [ -z "${CARGO_BUILD_JOBS:-}" ] && [ "$jobs" -lt "$(nproc)" ]; then
    say "Note: $free MiB of memory are free, so only $jobs of $(nproc) cores compile at once."
    export CARGO_BUILD_JOBS=$jobs
  fi
}

# Whether the C++ compiler compiles what RocksDB is written in.
have_cpp20() {
  printf '#include <string>\n#include <span>\nint main() { std::span<int> s; return s.size(); }\n' |
    "${CXX:-g++}" -std=c++20 -x c++ -fsyntax-only - 2>/dev/null
}

# install_packages PACKAGE…: says what it does, and asks for sudo when it isn't root. Fails after one
# sentence that says what to do.
install_packages() {
  local as_root=() problem
  if ! command -v apt-get >/dev/null; then
    problem="Missing: $*. Install them with this system's own tool."
  elif [ "$(id -u)" -ne 0 ] && ! command -v sudo >/dev/null; then
    problem="Missing: $*. As root, run: apt-get install $*"
  else
    [ "$(id -u)" -eq 0 ] || as_root=(sudo)
    say "Installing missing packages: $*${as_root[*]:+ (sudo may ask for your password)}"
    "${as_root[@]}" apt-get update -q &&
      "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive \
        apt-get install -y -q --no-install-recommends "$@" && return 0
    problem="apt-get cannot install $*. Check the network and apt's sources, and start again."
  fi
  say "$problem" >&2
  return 1
}

have_certificates() {
  local file
  for file in "${SSL_CERT_FILE:-}" "${CERTIFICATES[@]}"; do
    [ ! -e "$file" ] || return 0
  done
  return 1
}

# What compiling RocksDB and AWS-LC needs, and what cargo needs to trust the registry.
install_build_packages() {
  local missing=()
  command -v gcc >/dev/null || missing+=(gcc)
  command -v "${CXX:-g++}" >/dev/null || missing+=(g++)
  command -v make >/dev/null || missing+=(make)
  command -v cmake >/dev/null || missing+=(cmake)
  command -v ar >/dev/null || missing+=(binutils)
  [ -e /usr/include/stdlib.h ] || missing+=(libc6-dev)
  have_certificates || missing+=(ca-certificates)
  [ ${#missing[@]} -eq 0 ] || install_packages "${missing[@]}" || exit 1
  # Said now and not after minutes of building.
  have_cpp20 || die "$("${CXX:-g++}" --version | head -n 1) cannot compile C++20. Install g++ 11 or newer."
}

# What rustc calls this machine.
host_triple() { rustc -vV | sed -n 's/^host: //p'; }

# Downloads the crates that are not here yet.
fetch_crates() {
  local fetch=(cargo fetch --locked --quiet --target "$(host_triple)")
  ! "${fetch[@]}" --offline 2>/dev/null || return 0
  say "Downloading the crates that the build needs"
  "${fetch[@]}" || die "The crates cannot be downloaded from crates.io. Check the network; behind a\
 proxy, set HTTPS_PROXY or the proxy in ~/.cargo/config.toml."
}

# check_machine MIB: all of this, cheap checks first.
check_machine() {
  require_linux
  require_cargo
  check_disk "$1"
  check_memory
  install_build_packages
  fetch_crates
}
