#!/usr/bin/env bash
# What does not fit into CI: twenty kills in the midst of uploads, crash points on
# each disk in turn, and the benchmarks. The last
# result stands in tests/FULL.md.
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.."
# shellcheck source=deploy/env.sh
. deploy/env.sh

require_linux
require_cargo
install_build_packages
say "== twenty kills"
DRYSTONE_TEST_KILLS=20 cargo test --locked --workspace --test it -- --nocapture kill
say "== every crash point, up to its fourth passing"
DRYSTONE_TEST_CRASH_NTH=4 cargo test --locked --workspace --test it -- --nocapture every_crash_point
say "== benchmarks"
cargo test --locked --workspace --test it -- --ignored --nocapture --test-threads 1 bench_
