# Versions, folders and the few functions that every script here shares. Sourced, never run.
# Nothing in this file changes the machine.
# shellcheck shell=bash disable=SC2034

KUBERNETES_VERSION=v1.34.4   # the newest line that takes cgroup v1 without being asked
ETCD_VERSION=v3.6.4
COREDNS_VERSION=v1.13.1
KSERVE_VERSION=v0.17.0
KIND_VERSION=v0.30.0
PAUSE_VERSION=v1
HELM_VERSION=v3.22.0
PROMETHEUS_VERSION=v3.8.1     # Debian's is built without discovery in Kubernetes
DEBIAN_SUITE=bookworm        # of the base image, not of the host

HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
ROOT=$(cd "$HERE/../.." && pwd)
CACHE=${PILOTAGE_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/pilotage}
BIN=$CACHE/bin               # <name>-<version>, built once
PACKAGES=$CACHE/packages
DEBIAN_PACKAGES=(containerd runc containernetworking-plugins iptables conntrack buildah mmdebstrap)
TREE=$PACKAGES/$(sha256sum <<<"${DEBIAN_PACKAGES[*]}" | cut -c1-12)   # them, unpacked and never installed
IMAGES=$CACHE/images         # <name>-<version>.tar
STATE=$CACHE/cluster         # kubeconfig, logs, pids; the node's own folders under node/
ARTEFACTS=$STATE/artefacts   # what pods see as the artefact volume
KUBECONFIG_FILE=$STATE/kubeconfig

HOST_IP=198.18.1.1           # 198.18.0.0/15 is set aside for tests between machines (RFC 2544)
NODE_IP=198.18.1.2
HOST_LINK=pilotage0
NODE_NAME=pilotage

# fill FILE: settings/FILE with ${NAME} replaced, for the names below.
fill() {
  local text name
  text=$(<"$HERE/settings/$1")
  for name in PKI NODE_IP KUBECONFIG_FILE PAUSE_VERSION ARTEFACTS CA CERTIFICATE KEY; do
    text=${text//"\${$name}"/${!name:-}}
  done
  printf '%s\n' "$text"
}

say() { printf '%s\n' "$*" >&2; }
die() { say "error: $*"; exit 1; }

# step WORDS -- COMMAND…: runs the command, says how long it took. No `||` around it, which would switch errexit off in it.
step() {
  local words=$1 began=$EPOCHREALTIME outer=$STEP; shift 2
  STEP=$words
  "$@"
  STEP=$outer
  say "$(awk -v a="$began" -v b="$EPOCHREALTIME" -v w="$words" 'BEGIN{printf "%7.1fs  %s", b-a, w}')"
}
STEP=
trap '[[ -z $STEP ]] || say " failed   $STEP"' ERR

# await SECONDS WORDS COMMAND…: asks every 0.2 s until the command succeeds.
await() {
  local limit=$1 words=$2 end=$((SECONDS + $1)); shift 2
  until "$@" >/dev/null 2>&1; do
    ((SECONDS < end)) || { say "error: waited ${limit}s for $words"; return 1; }
    sleep 0.2
  done
}

as_root() { if ((EUID == 0)); then "$@"; else sudo -n "$@"; fi; }

# choose_way: prints current, kind or node (README.md).
choose_way() {
  case ${CLUSTER:-} in
    current | kind | node) echo "$CLUSTER" ;;
    "") if docker info >/dev/null 2>&1; then echo kind; else echo node; fi ;;
    *) die "CLUSTER=$CLUSTER: current, kind or node" ;;
  esac
}

kind_() { if command -v kind >/dev/null; then kind "$@"; else "$BIN/kind-$KIND_VERSION" "$@"; fi; }

# one_at_a_time NAME: a second run of the same script waits for the first. Holds descriptor 9, which every
# process that stays must be started without (9>&-).
one_at_a_time() {
  mkdir -p "$CACHE/lock"
  exec 9>"$CACHE/lock/$1"
  flock -n 9 || { say "waiting for another run of $1"; flock 9; }
}

# in_packages COMMAND…: runs it with the unpacked Debian packages laid over /usr and /etc, in a mount namespace that
# ends with it.
in_packages() {
  # shellcheck disable=SC2016
  as_root unshare --mount bash -c '
    mount -t overlay overlay -o "ro,lowerdir=$0/usr:/usr" /usr
    mount -t overlay overlay -o "ro,lowerdir=$0/etc:/etc" /etc
    exec "$@"' "$TREE" "$@"
}

# --- the node: one process (unshare) holds its namespaces; its number and start time are in $STATE/node.pid ---

started_at() { awk '{sub(/.*\) /, ""); print $20}' "/proc/$1/stat" 2>/dev/null; }

# node_pid: prints the number of the process that holds the node, fails when it is gone (or the number is another's).
node_pid() {
  local pid start
  read -r pid start 2>/dev/null <"$STATE/node.pid" || return 1
  [[ -n $start && $(started_at "$pid") == "$start" ]] && printf '%s\n' "$pid"
}

# first_process: prints the number, as the host sees it, of process 1 of the node's namespaces.
first_process() {
  local holder children
  holder=$(node_pid) && children=$(<"/proc/$holder/task/$holder/children") && [[ -n $children ]] && echo "${children%% *}"
}

# in_node COMMAND…: runs it inside the node's namespaces.
in_node() {
  local first
  first=$(first_process) || die "no node is up: hack/cluster/up.sh"
  as_root nsenter --target "$first" --mount --net --pid -- "$@"
}

kubectl_() { "$BIN/kubectl-$KUBERNETES_VERSION" --kubeconfig "$KUBECONFIG_FILE" "$@"; }

is_node_ready() { kubectl_ --request-timeout=2s get nodes | grep -q "^$NODE_NAME  *Ready "; }
is_kserve_ready() { curl -sf --max-time 2 "http://$NODE_IP:8081/readyz" >/dev/null; }
is_node_up() { node_pid >/dev/null && is_node_ready && is_kserve_ready; }

# --- images without an engine: an archive is a list of layers and a few words about them ---

# archive_image FILE REFERENCE CONFIG LAYER…: an image archive that containerd and buildah read. CONFIG is the inner
# object of an image's configuration, e.g. {"Entrypoint": ["/pause"]}; layers are plain tar files, lowest first.
archive_image() {
  local file=$1 reference=$2 config=$3 folder layer number=0 ids=() names=() history=()
  shift 3
  folder=$(mktemp -d "$(dirname "$file")/archive.XXXXXX")
  for layer; do
    number=$((number + 1))
    ln "$layer" "$folder/layer$number.tar" 2>/dev/null || cp "$layer" "$folder/layer$number.tar"
    names+=("\"layer$number.tar\"")
    history+=("{\"created_by\": \"hack/cluster\"}")   # buildah wants one for each layer
    ids+=("\"sha256:$(sha256sum "$layer" | cut -d' ' -f1)\"")
  done
  local IFS=,
  printf '{"architecture": "%s", "os": "linux", "config": %s, "rootfs": {"type": "layers", "diff_ids": [%s]}, "history": [%s]}' \
    "$(dpkg --print-architecture)" "$config" "${ids[*]}" "${history[*]}" >"$folder/config.json"
  printf '[{"Config": "config.json", "RepoTags": ["%s"], "Layers": [%s]}]' "$reference" "${names[*]}" \
    >"$folder/manifest.json"
  tar -C "$folder" -cf "$file.new" .
  mv -f "$file.new" "$file"
  rm -rf "$folder"
}

# archive_program FILE REFERENCE NAME-VERSION: an image of nothing but that static binary, run as nobody.
archive_program() {
  local layer name=${3%-*}
  layer=$(mktemp "$(dirname "$1")/layer.XXXXXX")
  tar -C "$BIN" --owner=0 --group=0 --transform "s/.*/$name/" -cf "$layer" "$3"
  archive_image "$1" "$2" "{\"Entrypoint\": [\"/$name\"], \"User\": \"65534:65534\"}" "$layer"
  rm "$layer"
}
