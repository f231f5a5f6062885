#!/usr/bin/env bash
# Everything that must hold before a change lands: format, lints, all tests, and the quickstart.
set -euo pipefail
cd "$(dirname "$0")/.."
. deploy/prepare.sh

prepare
say "Format"
cargo fmt --all --check
say "Lints (the first time this compiles RocksDB: 20 to 40 minutes on two cores)"
cargo clippy --release --workspace --all-targets --locked -- -D warnings
say "Programs"
cargo build --release --workspace --bins --locked
say "Unit, property and end-to-end tests"
cargo test --release --workspace --locked --no-fail-fast
say "The README's first command"
deploy/quickstart.sh --once
say "All tests passed"
