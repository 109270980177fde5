# shellcheck shell=bash
# Compiles RocksDB's C++ once, for every profile and every set of cargo's options. Left to itself,
# librocksdb-sys compiles each of its 342 files alone, and again for each profile: half of that time
# goes to reading the same headers. Here a few files include all the others, as RocksDB's own
# `make unity` does. Sourced by deploy/env.sh.

# Neighbours in the list include the same headers, so they go into one batch.
ROCKSDB_BATCH_FILES=22

# The sources that Cargo.lock names.
rocksdb_version() { sed -n '/^name = "librocksdb-sys"$/{n;s/^version = "\(.*\)"$/\1/p}' Cargo.lock; }

# The flags of librocksdb-sys, and the instruction set that the Reed-Solomon code is compiled for.
rocksdb_flags() {
  local flags=(-std=c++20 -O3 -DNDEBUG=1 -DLZ4=1 -DHAVE_ALIGNED_NEW -DHAVE_UINT128_EXTENSION
    -DOS_LINUX -DROCKSDB_PLATFORM_POSIX -DROCKSDB_LIB_IO_POSIX -DROCKSDB_SCHED_GETCPU_PRESENT
    -DROCKSDB_AUXV_GETAUXVAL_PRESENT -DROCKSDB_FALLOCATE_PRESENT -DROCKSDB_RANGESYNC_PRESENT
    -include cstdint -fPIC -ffunction-sections -fdata-sections -w
    "-march=$RUST_REED_SOLOMON_ERASURE_ARCH")
  printf '%s ' "${flags[@]}" "${CXXFLAGS:-}"
}

# One folder for each version, compiler and set of flags.
rocksdb_folder() {
  local compiler key
  compiler=$("${CXX:-g++}" --version 2>/dev/null | head -n 1)
  key=$(printf '%s\n' "$compiler" "$(rocksdb_flags)" $ROCKSDB_BATCH_FILES | sha256sum | cut -c 1-12)
  printf '%s/rocksdb-%s-%s\n' "$CACHE_DIRECTORY" "$(rocksdb_version)" "$key"
}

# Tells librocksdb-sys to link the library of a folder.
use_rocksdb() { export ROCKSDB_LIB_DIR=$1 ROCKSDB_STATIC=1; }

# crate_folder NAME: the sources of a dependency.
crate_folder() {
  cargo metadata --locked --offline --format-version 1 --filter-platform "$(host_triple)" |
    grep -o "\"manifest_path\":\"[^\"]*/$1-[0-9][^\"/]*/Cargo.toml\"" | head -n 1 |
    sed -e 's/^"manifest_path":"//' -e 's|/Cargo.toml"$||'
}

# rocksdb_batches CRATE FOLDER: writes the files that include all sources.
rocksdb_batches() {
  {
    printf '%s/build_version.cc\n' "$1"
    sed -n "\|^util/build_version.cc|d; s|^ *\(..*\.cc\) *$|$1/rocksdb/\1|p" \
      "$1/rocksdb_lib_sources.txt"
  } | sed 's/.*/#include "&"/' |
    split -d -l "$ROCKSDB_BATCH_FILES" --additional-suffix=.cc - "$2/batch-"
}

# compile_rocksdb FOLDER: compiles and packs; the library has its name once it is whole.
compile_rocksdb() {
  local folder=$1 crate lz4 flags
  crate=$(crate_folder librocksdb-sys)
  lz4=$(crate_folder lz4-sys)
  [ -n "$crate" ] && [ -n "$lz4" ] || return 1
  rocksdb_batches "$crate" "$folder" || return 1
  read -r -a flags <<<"$(rocksdb_flags)"
  flags+=("-I$crate/rocksdb/include" "-I$crate/rocksdb" "-I$crate" "-I$lz4/liblz4/lib")
  printf '%s\0' "$folder"/batch-*.cc |
    xargs -0 -P "${CARGO_BUILD_JOBS:-$(nproc)}" -I{} "${CXX:-g++}" "${flags[@]}" -c {} -o {}.o ||
    return 1
  ar rcs "$folder/partial.a" "$folder"/batch-*.o || return 1
  mv "$folder/partial.a" "$folder/librocksdb.a"
  rm "$folder"/batch-*
}

# Does so when the library is not here yet. Where it fails, cargo compiles RocksDB by itself.
build_rocksdb() {
  local folder lock
  folder=$(rocksdb_folder)
  mkdir -p "$folder"
  exec {lock}>"$folder/lock"
  flock "$lock"
  if [ ! -e "$folder/librocksdb.a" ]; then
    say "Compiling RocksDB, once for all builds on this machine"
    compile_rocksdb "$folder" 2>&1 | with_elapsed ||
      say "This compiler refuses RocksDB in batches. cargo compiles it file by file, in 15 minutes."
  fi
  exec {lock}>&-
  [ ! -e "$folder/librocksdb.a" ] || use_rocksdb "$folder"
}
