#!/usr/bin/env bash
# Builds the programs of a Kubernetes node from their Go modules, each once, into $PILOTAGE_CACHE/bin/<name>-<version>.
# From source because a machine without a container registry mostly has no release archives either, but a Go proxy.
#   binaries.sh [node] [kubectl] [coredns] [crds] [kserve] [prometheus]      none named: all
# A build ends in a temporary file that is then renamed: an interrupted one leaves no half binary.
set -euo pipefail
. "$(dirname "$0")/lib.sh"

export CGO_ENABLED=0 GOFLAGS='-buildvcs=false -trimpath' GOWORK=off
WORK=$CACHE/build

# has NAME-VERSION…: are all of them built?
has() { local name; for name; do [[ -x $BIN/$name ]] || return 1; done; }

# keep FILE NAME: a finished binary takes its place.
keep() { chmod +x "$1" && mv -f "$1" "$BIN/$2"; }

# compile FOLDER OUTPUT FLAG…: go build there, its words shown only when it fails.
compile() {
  local folder=$1 output=$2; shift 2
  (cd "$folder" && go build -o "$output" "$@" >build.log 2>&1) || { grep -v '^go: downloading' "$folder/build.log" >&2; return 1; }
}

# module_source MODULE VERSION FOLDER: a writable copy of a module's source, so that its own replace lines count.
module_source() {
  local source
  source=$(go mod download -json "$1@$2" | sed -n 's/^\t"Dir": "\(.*\)",$/\1/p')
  [[ -d $source ]] || die "no source of $1@$2"
  rm -rf "$3" && cp -r "$source" "$3" && chmod -R u+w "$3"
}

KUBERNETES_PROGRAMS=(kube-apiserver kube-controller-manager kube-scheduler kubelet kube-proxy kubectl)

# Kubernetes is one module whose staging parts are published apart, under v0.<minor>.<patch>.
# etcd is built in the same module: it shares most packages.
# build_kubernetes [PROGRAM]: all of them and etcd, or that one.
build_kubernetes() {
  local folder=$WORK/kubernetes version=$KUBERNETES_VERSION program wanted=("$@")
  (($#)) || wanted=("${KUBERNETES_PROGRAMS[@]}")
  module_source k8s.io/kubernetes "$version" "$WORK/kubernetes-source"
  rm -rf "$folder" && mkdir -p "$folder/etcd"
  {
    printf 'module pilotage.dev/node\n\n'
    sed -n '/^go [0-9]/p;/^godebug/p' "$WORK/kubernetes-source/go.mod"
    printf 'require k8s.io/kubernetes %s\nrequire go.etcd.io/etcd/server/v3 %s\n' "$version" "$ETCD_VERSION"
    sed -n "s|^\t*\(k8s.io/[^ ]*\) => ./staging/.*|replace \1 => \1 v0${version#v1}|p" "$WORK/kubernetes-source/go.mod"
  } >"$folder/go.mod"
  cp "$WORK/kubernetes-source/go.sum" "$folder/go.sum"
  {
    printf '//go:build tools\n\npackage tools\n\nimport (\n'
    for program in "${KUBERNETES_PROGRAMS[@]}"; do
      case $program in
        kubectl) printf '\t_ "k8s.io/kubectl/pkg/cmd"\n' ;;
        *) printf '\t_ "k8s.io/kubernetes/cmd/%s/app"\n' "$program" ;;
      esac
    done
    printf ')\n'
  } >"$folder/tools.go"
  cat >"$folder/etcd/main.go" <<'GO'
package main

import (
	"os"

	"go.etcd.io/etcd/server/v3/etcdmain"
)

func main() { etcdmain.Main(os.Args) }
GO
  local minor=${version#v1.}; minor=${minor%%.*}
  local stamp=k8s.io/component-base/version
  (cd "$folder" && go mod tidy -e >tidy.log 2>&1) || { tail -20 "$folder/tidy.log" >&2; die "go mod tidy of $folder"; }
  # One at a time, so that what was built stays when the next is interrupted; the packages are shared anyway.
  for program in "${wanted[@]}"; do
    has "$program-$version" && continue
    step "build $program $version" -- compile "$folder" "$program.out" \
      -ldflags "-s -w -X $stamp.gitVersion=$version -X $stamp.gitMajor=1 -X $stamp.gitMinor=$minor" \
      "k8s.io/kubernetes/cmd/$program"
    keep "$folder/$program.out" "$program-$version"
  done
  if (($# == 0)) && ! has "etcd-$ETCD_VERSION"; then
    step "build etcd $ETCD_VERSION" -- compile "$folder" etcd.out -ldflags '-s -w' ./etcd
    keep "$folder/etcd.out" "etcd-$ETCD_VERSION"
  fi
}

build_coredns() {
  local folder=$WORK/coredns
  module_source github.com/coredns/coredns "$COREDNS_VERSION" "$folder"
  compile "$folder" coredns.out -ldflags '-s -w' .
  keep "$folder/coredns.out" "coredns-$COREDNS_VERSION"
}

build_kserve() {
  local folder=$WORK/kserve
  module_source github.com/kserve/kserve "$KSERVE_VERSION" "$folder"
  compile "$folder" manager.out -ldflags '-s -w' ./cmd/manager
  keep "$folder/manager.out" "kserve-manager-$KSERVE_VERSION"
}

render_kserve_crds() {
  local folder=$WORK/kserve-crds
  module_source github.com/kserve/kserve "$KSERVE_VERSION" "$folder"
  "$BIN/kubectl-$KUBERNETES_VERSION" kustomize "$folder/config/crd" >"$folder/crds.yaml"
  mv -f "$folder/crds.yaml" "$BIN/kserve-crds-$KSERVE_VERSION.yaml"
}

# Prometheus 3.5.0 is module version 0.305.0. Of its two dozen ways of discovery only Kubernetes is built in; its web
# pages are not in the module, its API is.
build_prometheus() {
  local folder=$WORK/prometheus version=$PROMETHEUS_VERSION minor name
  minor=${version#v3.}
  module_source github.com/prometheus/prometheus "v0.3$(printf %02d "${minor%%.*}").${minor#*.}" "$folder"
  printf 'package plugins\n\nimport _ "github.com/prometheus/prometheus/discovery/kubernetes"\n' >"$folder/plugins/plugins.go"
  for name in prometheus promtool; do
    compile "$folder" "$name.out" -ldflags "-s -w -X github.com/prometheus/common/version.Version=${version#v}" "./cmd/$name"
  done
  for name in promtool prometheus; do keep "$folder/$name.out" "$name-$version"; done
}

# The container that holds a pod's namespaces: waits for SIGTERM, and reaps what is reparented to it.
build_pause() {
  local folder=$WORK/pause
  rm -rf "$folder" && mkdir -p "$folder"
  cat >"$folder/main.go" <<'GO'
package main

import (
	"os"
	"os/signal"
	"syscall"
)

func main() {
	signals := make(chan os.Signal, 16)
	signal.Notify(signals, syscall.SIGTERM, syscall.SIGINT, syscall.SIGCHLD)
	for s := range signals {
		if s != syscall.SIGCHLD {
			return
		}
		for {
			if pid, err := syscall.Wait4(-1, nil, syscall.WNOHANG, nil); pid <= 0 || err != nil {
				break
			}
		}
	}
}
GO
  GO111MODULE=off compile "$folder" pause.out -ldflags '-s -w' main.go
  keep "$folder/pause.out" "pause-$PAUSE_VERSION"
}

main() {
  one_at_a_time binaries
  mkdir -p "$BIN" "$WORK"
  local programs=("${KUBERNETES_PROGRAMS[@]/%/-$KUBERNETES_VERSION}") name
  (($#)) || set -- node coredns crds kserve prometheus
  for name; do
    case $name in
      node)
        if ! has "${programs[@]}" "etcd-$ETCD_VERSION"; then build_kubernetes; fi
        has "pause-$PAUSE_VERSION" || step "build pause" -- build_pause
        ;;
      kubectl) has "kubectl-$KUBERNETES_VERSION" || build_kubernetes kubectl ;;
      coredns) has "coredns-$COREDNS_VERSION" || step "build coredns $COREDNS_VERSION" -- build_coredns ;;
      crds) [[ -e $BIN/kserve-crds-$KSERVE_VERSION.yaml ]] || step "render KServe's CRDs" -- render_kserve_crds ;;
      kserve) has "kserve-manager-$KSERVE_VERSION" || step "build kserve manager $KSERVE_VERSION" -- build_kserve ;;
      prometheus) has "prometheus-$PROMETHEUS_VERSION" || step "build prometheus $PROMETHEUS_VERSION" -- build_prometheus ;;
      *) die "no recipe for $name" ;;
    esac
  done
  rm -rf "$WORK"
}

main "$@"
