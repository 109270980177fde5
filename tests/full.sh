#!/usr/bin/env bash
# What does not fit into CI: a hundred rounds of each race, twenty kills in the midst of uploads, a
# disk replaced under ten thousand objects, crash points on each disk in turn, two hundred power
# cuts, a minute for each fuzz target, ceph/s3-tests where DRYSTONE_S3TESTS names a checkout, and the
# benchmarks. The last result stands in tests/FULL.md.
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.."
# shellcheck source=deploy/env.sh
. deploy/env.sh

require_linux
require_cargo
install_build_packages
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
say "== two hundred power cuts, and each other fault for a while"
build --workspace
examiner=$CARGO_TARGET_DIR/debug/examiner
"$examiner" power --rounds 200 || [ $? -eq 77 ]
for nemesis in kill point gone rot swap full clock; do
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
say "== benchmarks"
cargo test --locked --workspace --test it -- --ignored --nocapture --test-threads 1 bench_
