#!/usr/bin/env bash
# Prepares a machine to build taglog: installs what is missing, gets a prebuilt RocksDB, and sets the target directory.
#
#   eval "$(deploy/prepare.sh [OPTION])"    for a shell in which cargo is run by hand
#
# deploy/quickstart.sh and tests/run.sh source this file, and take the same option:
#
#   (none)         a prebuilt RocksDB where Maven is installed; otherwise RocksDB is compiled
#   --prebuilt     installs Maven from Debian's packages if it is missing
#   --from-source  compiles RocksDB: 20 to 60 minutes on two cores, once
#
# Changing from prebuilt to source makes cargo compile RocksDB again, so keep using one of them.

say() { printf '\n\033[1m== %s\033[0m\n' "$*"; }
fail() { printf '%s\n' "$*" >&2; exit 1; }

PREPARE_OPTIONS="[--prebuilt | --from-source]"
cache="${XDG_CACHE_HOME:-$HOME/.cache}/taglog"

# Outside the checkout, so that dependencies are compiled once for all checkouts.
export CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-$cache/target}"

# The version of RocksDB that librocksdb-sys (see Cargo.lock) has bindings for, as the Maven artifact
# org.rocksdb:rocksdbjni, whose libraries export RocksDB's whole C interface.
ROCKSDB_VERSION=11.8.1
ROCKSDB_JAR_SHA256=628ed387887f4a431df480857954df2a28b4389bfe24858ccdec611cabf65dbf

# install_packages COMMAND-OR-FILE=PACKAGE ...: installs the Debian packages whose command (or file
# pattern) does not exist.
install_packages() {
  local missing=() pair need package
  for pair in "$@"; do
    need="${pair%%=*}" package="${pair#*=}"
    case "$need" in
      /*) compgen -G "$need" >/dev/null || missing+=("$package") ;;
      *) command -v "$need" >/dev/null || missing+=("$package") ;;
    esac
  done
  [ ${#missing[@]} -eq 0 ] && return 0
  command -v apt-get >/dev/null || fail "Please install: ${missing[*]} (this script can only install Debian packages)."
  say "Installing from Debian's packages: ${missing[*]}"
  local as_root=()
  [ "$(id -u)" -eq 0 ] || as_root=(sudo)
  "${as_root[@]}" apt-get update -q >/dev/null
  "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends "${missing[@]}" >/dev/null
}

# has_sha256 SUM FILE
has_sha256() { printf '%s  %s\n' "$1" "$2" | sha256sum --check --status 2>/dev/null; }

# compile_rocksdb WHY: no prebuilt library is used.
compile_rocksdb() {
  unset ROCKSDB_LIB_DIR
  say "RocksDB is compiled from source, which takes 20 to 60 minutes on two cores the first time: $1"
}

# Sets ROCKSDB_LIB_DIR to a directory with a prebuilt librocksdb.so of exactly the required version, checked against
# the SHA-256 values here; or prints why RocksDB is compiled instead.
find_rocksdb() {
  local member sum directory jar
  case "$(uname -sm)" in
    'Linux x86_64')
      member=librocksdbjni-linux64.so sum=265c656af5c6502cb8d71db1a74858509f706cc47f1a5b6f603c736d11ce677d ;;
    'Linux aarch64')
      member=librocksdbjni-linux-aarch64.so sum=7b2d0808c6afae32db39f11cb61cbefffcf460895b1c64ee6193ba02d6bdd23a ;;
    *) compile_rocksdb "there is no prebuilt library for $(uname -sm)" && return ;;
  esac
  grep -q "^version = \".*+$ROCKSDB_VERSION\"" "$root/Cargo.lock" ||
    { compile_rocksdb "Cargo.lock wants another version than the prebuilt $ROCKSDB_VERSION" && return; }
  directory="$cache/rocksdb-$ROCKSDB_VERSION-$(uname -m)"
  if ! has_sha256 "$sum" "$directory/librocksdb.so"; then
    command -v mvn >/dev/null ||
      { compile_rocksdb "Maven is not installed (--prebuilt installs it)" && return; }
    install_packages unzip=unzip
    jar="$cache/rocksdbjni-$ROCKSDB_VERSION.jar"
    say "Getting a prebuilt RocksDB: Maven artifact org.rocksdb:rocksdbjni:$ROCKSDB_VERSION"
    mvn -q -B dependency:copy -Dartifact="org.rocksdb:rocksdbjni:$ROCKSDB_VERSION" -DoutputDirectory="$cache" \
      -Dmdep.useBaseVersion=true >&2 || { compile_rocksdb "Maven could not get the prebuilt library" && return; }
    has_sha256 "$ROCKSDB_JAR_SHA256" "$jar" ||
      { rm -f "$jar"; compile_rocksdb "the file from Maven does not have the expected SHA-256, and is not used" && return; }
    mkdir -p "$directory"
    unzip -p "$jar" "$member" >"$directory/librocksdb.so.part"
    mv "$directory/librocksdb.so.part" "$directory/librocksdb.so"
    rm -f "$jar"
    has_sha256 "$sum" "$directory/librocksdb.so" ||
      { compile_rocksdb "the prebuilt library does not have the expected SHA-256, and is not used" && return; }
  fi
  export ROCKSDB_LIB_DIR="$directory"
}

# What the quickstart runs besides taglog: a registry, skopeo to push real images, and curl.
install_tools() {
  install_packages curl=curl docker-registry=docker-registry skopeo=skopeo
}

# prepare [--prebuilt | --from-source]
prepare() {
  local root
  root="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
  command -v cargo >/dev/null || fail "Please install Rust first: see rustup.rs."
  # libclang (a machine may have only libclang-cpp, which is not enough) and a C++ compiler are for RocksDB's bindings,
  # cmake for the client's allocator, faketime for tests of the clock, shellcheck and xmllint for tests of the CI templates.
  install_packages '/usr/lib/llvm-*/lib/libclang.so*=libclang-dev' c++=g++ make=make cmake=cmake \
    faketime=faketime shellcheck=shellcheck xmllint=libxml2-utils
  install_tools
  case "${1:-}" in
    '') find_rocksdb ;;
    --prebuilt)
      install_packages mvn=maven
      find_rocksdb
      ;;
    --from-source) compile_rocksdb "as you asked" ;;
    *) fail "unknown option $1; usage: $PREPARE_OPTIONS" ;;
  esac
}

# Run, not sourced: prepares, and prints what a shell needs.
if [ "${BASH_SOURCE[0]}" = "$0" ]; then
  set -euo pipefail
  [ $# -le 1 ] || fail "usage: deploy/prepare.sh $PREPARE_OPTIONS"
  prepare "$@" >&2
  printf 'export CARGO_TARGET_DIR=%q\n' "$CARGO_TARGET_DIR"
  if [ -n "${ROCKSDB_LIB_DIR:-}" ]; then
    printf 'export ROCKSDB_LIB_DIR=%q\n' "$ROCKSDB_LIB_DIR"
  else
    echo 'unset ROCKSDB_LIB_DIR'
  fi
fi
