# Sourced by deploy/quickstart.sh and tests/run.sh: installs what is missing, and says where to build.

say() { printf '\n\033[1m== %s\033[0m\n' "$*"; }
fail() { printf '%s\n' "$*" >&2; exit 1; }

# Outside the checkout, so that RocksDB's C++ is compiled once for all checkouts.
export CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-${XDG_CACHE_HOME:-$HOME/.cache}/taglog/target}"

# install_packages COMMAND-OR-FILE=PACKAGE ...: installs the Debian packages whose command (or file
# pattern) is not there.
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
  command -v apt-get >/dev/null || fail "Please install: ${missing[*]} (this script knows Debian's packages only)."
  say "Installing from Debian's packages: ${missing[*]}"
  local as_root=()
  [ "$(id -u)" -eq 0 ] || as_root=(sudo)
  "${as_root[@]}" apt-get update -q >/dev/null
  "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends "${missing[@]}" >/dev/null
}

prepare() {
  command -v cargo >/dev/null || fail "Please install Rust first: see rustup.rs."
  # libclang (not libclang-cpp, which a machine may have alone) and a C++ compiler are for RocksDB's
  # bindings, cmake is for the client's allocator, the registry and skopeo are for real images,
  # faketime for clocks that jump, shellcheck and xmllint for what CI systems run and read.
  install_packages '/usr/lib/llvm-*/lib/libclang.so*=libclang-dev' c++=g++ make=make cmake=cmake curl=curl \
    docker-registry=docker-registry skopeo=skopeo faketime=faketime shellcheck=shellcheck xmllint=libxml2-utils
}
