#!/usr/bin/env bash
# Runs the checks that do not fit into CI: the book, the checks of documents and dependencies,
# a hundred rounds of each race, twenty kills during uploads, a disk replaced under ten thousand objects,
# crash points on each disk in turn, two hundred power cuts, a minute for each fuzz target,
# ceph/s3-tests where DRYSTONE_S3TESTS names a checkout, a crowd of connections, and the benchmarks.
# With --roots it runs the README's commands in clean systems first (tests/roots.sh). The last result
# is in tests/FULL.md.
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.."
# shellcheck source=deploy/env.sh
. deploy/env.sh

MDBOOK_VERSION=0.5.4
CARGO_DENY_VERSION=0.20.2
TYPOS_VERSION=1.52.0
tools=$CACHE_DIRECTORY/document-tools

# crate NAME VERSION FLAG…: installs a program from crates.io once, without debug information.
crate() {
  local name=$1 version=$2
  shift 2
  [ ! -x "$tools/$name-$version/bin/$name" ] || return 0
  say "Installing $name $version"
  CARGO_TARGET_DIR=$tools/target cargo install --quiet --locked --debug "$@" --version "$version" \
    --root "$tools/$name-$version" "$name" && rm -rf "$tools/target"
}

# Builds the book with every page that docs/SUMMARY.md names, and checks the links of all pages.
check_documents() {
  tests/links.py
  if crate mdbook "$MDBOOK_VERSION" --no-default-features --features search; then
    "$tools/mdbook-$MDBOOK_VERSION/bin/mdbook" build --dest-dir "$tools/book" docs
  else
    say "skipped: mdbook build (mdbook cannot be installed)"
  fi
  python3 -m venv "$tools/python"
  local pip=("$tools/python/bin/pip" install -q --disable-pip-version-check --no-input)
  if "${pip[@]}" "typos==$TYPOS_VERSION"; then
    "$tools/python/bin/typos"
  else
    say "skipped: typos (it cannot be installed)"
  fi
}

check_dependencies() {
  local deny=$tools/cargo-deny-$CARGO_DENY_VERSION/bin/cargo-deny
  if crate cargo-deny "$CARGO_DENY_VERSION"; then
    "$deny" --log-level error check bans licenses sources
    # The list of advisories is on a site of its own, which may be out of reach.
    if "$deny" --log-level off fetch db; then
      "$deny" --log-level error check --disable-fetch advisories
    else
      say "skipped: cargo deny check advisories (their list cannot be fetched)"
    fi
  else
    say "skipped: cargo deny (it cannot be installed)"
  fi
}

check_machine "$DISK_MIB_TESTS"
build_rocksdb
case ${1:-} in
  '') ;;
  --roots)
    say "== clean systems"
    tests/roots.sh
    ;;
  *) die "Usage: tests/full.sh [--roots]" ;;
esac
say "== bindings of RocksDB"
deploy/bindgen/generate.sh --check
say "== documents"
check_documents
say "== dependencies"
check_dependencies
say "== a hundred rounds of each race"
DRYSTONE_TEST_RACES=100 cargo test --locked --workspace --test store -- b_27 b_28 b_30 b_31
say "== twenty kills"
DRYSTONE_TEST_KILLS=20 cargo test --locked --workspace --test it -- --nocapture kill
say "== ten thousand objects on 4+2, a disk replaced under load and with kills in the middle"
DRYSTONE_TEST_OBJECTS=10000 cargo test --locked --workspace --test it -- --nocapture replaced_disks
say "== every crash point, up to its fourth passing; upkeep after each of its first batches"
DRYSTONE_TEST_CRASH_NTH=4 DRYSTONE_TEST_CRASH_BATCHES=24 \
  cargo test --locked --workspace --test it -- --nocapture every_crash_point
say "== every way of damage, of shards and of metadata files, on any two of four and of six disks"
DRYSTONE_TEST_DAMAGE=all cargo test --locked --workspace --test it -- --nocapture damaged_and_healed
say "== two hundred power cuts, a hundred with a disk that hangs, and each other fault for a while"
build --workspace
examiner=$CARGO_TARGET_DIR/debug/examiner
"$examiner" power --rounds 200 || [ $? -eq 77 ]
"$examiner" hang-power --rounds 100 || [ $? -eq 77 ]
for nemesis in kill hang hang-start point emptied rot swap full clock; do
  "$examiner" "$nemesis" --rounds 20 || [ $? -eq 77 ]
done
say "== fuzzing, a minute for each target"
tests/fuzz.sh
if [ -n "${DRYSTONE_S3TESTS:-}" ]; then
  say "== ceph/s3-tests"
  tests/conformance/run.sh "$DRYSTONE_S3TESTS"
else
  say "== ceph/s3-tests: skipped, as DRYSTONE_S3TESTS names no checkout"
fi
say "== two thousand connections of one address"
cargo test --locked --workspace --test it -- --ignored --nocapture --test-threads 1 crowds
say "== benchmarks"
cargo test --locked --workspace --test it -- --ignored --nocapture --test-threads 1 bench_
