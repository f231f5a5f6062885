#!/usr/bin/env bash
# Builds taglog from the source of this action.
#
#   install.sh key         prints a hash of that source, for the cache
#   install.sh build DIR   builds it; the program is DIR/bin/taglog
set -euo pipefail
cd "$(dirname "$0")/../.."

case "${1:-}" in
  key)
    # The compiler too: a program must fit the system that it was built for.
    key="$({ find Cargo.toml Cargo.lock proto verifier-cli -type f -print0 | sort -z | xargs -0 sha256sum && rustc -V; } |
      sha256sum | cut -d' ' -f1)"
    echo "key=$key" >>"$GITHUB_OUTPUT"
    ;;
  build)
    CARGO_TARGET_DIR="$RUNNER_TEMP/taglog-target" cargo install --quiet --locked --path verifier-cli --root "$2"
    ;;
  *)
    echo "usage: install.sh key | install.sh build DIR" >&2
    exit 2
    ;;
esac
