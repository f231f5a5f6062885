#!/usr/bin/env bash
# Fetches the files that public.txt lists, each at its commit, into a directory, and checks their hashes:
#
#   verifier-cli/crates/image-sources/tests/files/fetch-public.sh DIR
#   TAGLOG_PUBLIC_FILES="$(realpath DIR)" cargo test -p taglog-image-sources --test files
#
# They are others' work under their own licences, and stay out of this repository. A file that is there already is only
# checked. FROM names another server with the paths OWNER/NAME/COMMIT/PATH.
set -euo pipefail
into=${1:?want a directory: fetch-public.sh DIR}
from=${FROM:-https://raw.githubusercontent.com}
list=$(dirname "$0")/public.txt
fetched=0
while read -r mark name rest; do
  case $mark in
    @) repository=$name commit=${rest%% *} ;;
    -)
      file=$into/${repository/\//+}/$name
      if [[ ! -e $file ]]; then
        mkdir -p "$(dirname "$file")"
        curl --fail --silent --show-error --location --retry 3 --output "$file" "$from/$repository/$commit/$name"
        fetched=$((fetched + 1))
      fi
      sha256sum --check --quiet <<<"$rest  $file"
      ;;
  esac
done <"$list"
echo "$fetched files fetched; all that are listed are in $into"
