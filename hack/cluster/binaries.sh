#!/usr/bin/env bash
# Builds the programs of a Kubernetes node from their Go modules, each once, into $PILOTAGE_CACHE/bin/<name>-<version>.
# From source because a machine without a container registry mostly has no release archives either, but a Go proxy.
#   binaries.sh [node] [kubectl] [coredns] [crds] [kserve] [prometheus]      none named: all
#   binaries.sh helm      for tests of the chart; onto the PATH that up.sh prints
# What is missing is built in one graph (kubernetes/go.mod): what programs share is compiled once, and what Go has
# compiled stays in its own cache when a build is interrupted.
set -euo pipefail
. "$(dirname "$0")/lib.sh"

export CGO_ENABLED=0 GOFLAGS='-buildvcs=false -trimpath' GOWORK=off
MODULE=$CACHE/build/node     # a copy of kubernetes/, with Prometheus' source in it
OUT=$CACHE/build/out

# The package of each program; local ones are folders of kubernetes/.
declare -A PACKAGES_OF=(
  [kube-apiserver-$KUBERNETES_VERSION]=k8s.io/kubernetes/cmd/kube-apiserver
  [kube-controller-manager-$KUBERNETES_VERSION]=k8s.io/kubernetes/cmd/kube-controller-manager
  [kube-scheduler-$KUBERNETES_VERSION]=k8s.io/kubernetes/cmd/kube-scheduler
  [kubelet-$KUBERNETES_VERSION]=k8s.io/kubernetes/cmd/kubelet
  [kube-proxy-$KUBERNETES_VERSION]=k8s.io/kubernetes/cmd/kube-proxy
  [kubectl-$KUBERNETES_VERSION]=k8s.io/kubernetes/cmd/kubectl
  [etcd-$ETCD_VERSION]=./etcd
  [pause-$PAUSE_VERSION]=./pause
  [coredns-$COREDNS_VERSION]=./coredns
  [kserve-manager-$KSERVE_VERSION]=github.com/kserve/kserve/cmd/manager
  [prometheus-$PROMETHEUS_VERSION]=github.com/prometheus/prometheus/cmd/prometheus
  [promtool-$PROMETHEUS_VERSION]=github.com/prometheus/prometheus/cmd/promtool
)

# programs_of PART: the programs of that part, one a line.
programs_of() {
  case $1 in
    node) printf '%s\n' "${!PACKAGES_OF[@]}" | grep -E '^(kube|etcd|pause)' ;;
    kubectl) echo "kubectl-$KUBERNETES_VERSION" ;;
    coredns) echo "coredns-$COREDNS_VERSION" ;;
    kserve) echo "kserve-manager-$KSERVE_VERSION" ;;
    prometheus) printf '%s\n' "promtool-$PROMETHEUS_VERSION" "prometheus-$PROMETHEUS_VERSION" ;;
    crds) echo "kubectl-$KUBERNETES_VERSION" ;; # renders them
    helm) ;; # by itself: build_helm
    *) die "no recipe for $1" ;;
  esac
}

# source_of MODULE@VERSION: the folder of its source, downloaded where it is not there.
source_of() {
  local folder
  folder=$(go mod download -json "$1" | sed -n 's/^\t"Dir": "\(.*\)",$/\1/p')
  [[ -d $folder ]] || die "no source of $1"
  echo "$folder"
}

# Of Prometheus' two dozen ways of discovery only Kubernetes is built in. Its web pages are not in the module, its API is.
lay_out() {
  local minor=${PROMETHEUS_VERSION#v3.}
  rm -rf "$MODULE" && mkdir -p "$MODULE" "$OUT"
  cp -r "$HERE/kubernetes/." "$MODULE/"
  cp -r "$(source_of "github.com/prometheus/prometheus@v0.3$(printf %02d "${minor%%.*}").${minor#*.}")" "$MODULE/prometheus"
  chmod -R u+w "$MODULE/prometheus"
  rm "$MODULE/prometheus/plugins/"*.go
  cp "$HERE/kubernetes/discovery/plugins.go" "$MODULE/prometheus/plugins/plugins.go"
}

# download PACKAGE…: everything they are made of; how many packages that is goes into $OUT.total.
download() {
  lay_out
  (cd "$MODULE" && go list -deps "$@" 2>"$OUT.log" | wc -l >"$OUT.total") || { tail -20 "$OUT.log" >&2; return 1; }
}

# show_progress TOTAL: a line every 20 seconds (on a terminal: all the time) while package names come in.
show_progress() {
  local total=$1 done=0 every=20 said=$SECONDS end=$'\n' line
  [[ ! -t 2 ]] || { every=1 end=$'\r'; }
  while IFS= read -r line; do
    if [[ $line == *' '* || $line == *: ]]; then say "$line"; continue; fi
    done=$((done + 1))
    if ((SECONDS - said >= every)); then
      said=$SECONDS
      printf '          %s of at most %s packages compiled%s' "$done" "$total" "$end" >&2
    fi
  done
}

# compile PACKAGE…: all of them in one graph, into $OUT.
compile() {
  local stamp=k8s.io/component-base/version minor=${KUBERNETES_VERSION#v1.}
  local flags="-s -w -X $stamp.gitVersion=$KUBERNETES_VERSION -X $stamp.gitMajor=1 -X $stamp.gitMinor=${minor%%.*}"
  flags+=" -X github.com/prometheus/common/version.Version=${PROMETHEUS_VERSION#v}"
  (cd "$MODULE" && go build -v -gcflags=all=-dwarf=false -ldflags "$flags" -o "$OUT/" "$@" 2>&1) | show_progress "$(<"$OUT.total")"
}

# build PROGRAM…: those that are not there yet.
build() {
  local program packages=()
  for program; do [[ -x $BIN/$program ]] || packages+=("${PACKAGES_OF[$program]}"); done
  ((${#packages[@]})) || return 0
  say "builds ${#packages[@]} programs from source, once: all of them take 7 to 9 minutes on two cores, 2 GB of downloads"
  say "and 4 GB of Go's caches. Meanwhile, in another terminal: make demo-local, which needs none of them."
  step "download Go modules" -- download "${packages[@]}"
  step "build ${#packages[@]} programs" -- compile "${packages[@]}"
  for program; do
    [[ -x $BIN/$program ]] || mv -f "$OUT/$(basename "${PACKAGES_OF[$program]}")" "$BIN/$program"
  done
}

# Helm wants other releases of what it shares with the rest.
build_helm() {
  mkdir -p "$OUT"
  GOBIN=$OUT go install -ldflags "-s -w -X helm.sh/helm/v3/internal/version.version=$HELM_VERSION" \
    "helm.sh/helm/v3/cmd/helm@$HELM_VERSION"
  mv -f "$OUT/helm" "$BIN/helm-$HELM_VERSION"
  mkdir -p "$BIN/path" && ln -sfn "../helm-$HELM_VERSION" "$BIN/path/helm"
}

render_crds() {
  local file=$BIN/kserve-crds-$KSERVE_VERSION.yaml
  "$BIN/kubectl-$KUBERNETES_VERSION" kustomize "$(source_of "github.com/kserve/kserve@$KSERVE_VERSION")/config/crd" >"$file.new"
  mv -f "$file.new" "$file"
}

main() {
  local part words programs=()
  one_at_a_time binaries
  mkdir -p "$BIN"
  (($#)) || set -- node coredns crds kserve prometheus
  for part; do
    words=$(programs_of "$part")
    [[ -n $words ]] || continue
    mapfile -t -O "${#programs[@]}" programs <<<"$words"
  done
  build "${programs[@]}"
  if [[ " $* " == *' crds '* && ! -e $BIN/kserve-crds-$KSERVE_VERSION.yaml ]]; then
    step "render KServe's CRDs" -- render_crds
  fi
  if [[ " $* " == *' helm '* && ! -x $BIN/helm-$HELM_VERSION ]]; then
    step "build Helm" -- build_helm
  fi
  rm -rf "$CACHE/build"
}

main "$@"
