#!/usr/bin/env bash
# Everything that must hold before a change lands: format, lints, all tests, and the quickstart.
#
#   tests/run.sh [--prebuilt | --from-source]    which RocksDB: see deploy/prepare.sh
set -euo pipefail
cd "$(dirname "$0")/.."
. deploy/prepare.sh
[ $# -le 1 ] || fail "usage: tests/run.sh $PREPARE_OPTIONS"

prepare "$@"
say "Format"
cargo fmt --all --check
say "Lints"
cargo clippy --workspace --all-targets --locked -- -D warnings
# One build of everything: built apart, the programs would be compiled again with the features that tests add.
say "Programs and tests"
cargo build --workspace --all-targets --locked
say "Unit, property and end-to-end tests"
cargo test --workspace --locked --no-fail-fast
say "The README's first command"
deploy/quickstart.sh --once --programs "$CARGO_TARGET_DIR/debug"
say "All tests passed"
