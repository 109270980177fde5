#!/usr/bin/env bash
# Each fuzz target (the tests whose names begin with a_64_fuzz) for a minute, or for as many seconds
# as the argument says. The same tests, built as always, run a moment each in tests/run.sh.
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.."
# shellcheck source=deploy/env.sh
. deploy/env.sh

seconds=${1:-60}
targets=(requests canonical_requests chunks xml ranges copy_sources forms)

check_machine "$DISK_MIB_TESTS"
build_rocksdb
export BOLERO_RANDOM_TEST_TIME_MS=$((seconds * 1000))
# The time is the only limit. A failure prints its seed; BOLERO_RANDOM_SEED repeats it.
export BOLERO_RANDOM_ITERATIONS=9223372036854775807
for target in "${targets[@]}"; do
  say "== $target, $seconds s"
  name=s3::tests::fuzz::a_64_fuzz_$target
  cargo test --locked --workspace --lib -- --exact "$name" 2>&1 | tee /dev/stderr |
    grep "1 passed" >/dev/null || die "$name failed, or is not there."
done
