#!/usr/bin/env bash
# Brings up a Kubernetes with a Ready node, a name service and KServe, and prints the line that lets kubectl find it:
#   eval "$(hack/cluster/up.sh)"
# CLUSTER=current takes the cluster that kubectl already speaks to; else kind where Docker answers; else a node of our
# own in namespaces of its own (README.md). Run again, it takes what is healthy as it is and repairs the rest.
# --print-env only prints that line.
set -euo pipefail
. "$(dirname "$0")/lib.sh"

print_env() {
  printf 'export KUBECONFIG=%q\n' "$1"
  command -v kubectl >/dev/null || printf 'export PATH=%q:$PATH\n' "$BIN/path"
}

# --- a cluster that is there ---

use_current() {
  command -v kubectl >/dev/null || die "CLUSTER=current needs kubectl"
  kubectl --request-timeout=10s get --raw /readyz >/dev/null || die "the current context does not answer"
  kubectl get crd inferenceservices.serving.kserve.io >/dev/null 2>&1 ||
    say "no KServe here: serving needs it (v0.17, Standard mode)"
  say "current context: $(kubectl config current-context)"
}

# --- kind ---

up_kind() {
  local kind=kind
  command -v kind >/dev/null || { kind=$BIN/kind-$KIND_VERSION; [[ -x $kind ]] ||
    step "build kind" -- env GOBIN="$BIN" GOFLAGS=-buildvcs=false go install "sigs.k8s.io/kind@$KIND_VERSION" &&
    mv "$BIN/kind" "$kind"; }
  "$HERE/binaries.sh"
  "$kind" get clusters 2>/dev/null | grep -qx pilotage ||
    step "kind create cluster" -- "$kind" create cluster --config "$HERE/kind.yaml" --kubeconfig "$KUBECONFIG_FILE" >&2
  "$kind" export kubeconfig --name pilotage --kubeconfig "$KUBECONFIG_FILE" >&2
  # KServe's controller is a pod here. Its certificate serves nothing (no webhooks), but it wants one.
  make_pki
  kubectl_ apply --server-side -f "$BIN/kserve-crds-$KSERVE_VERSION.yaml" >/dev/null
  kubectl_ apply -f "$HERE/kserve.yaml" >/dev/null
  kubectl_ -n kserve create secret tls kserve-webhook-server-cert --cert "$PKI/server.crt" --key "$PKI/server.key" \
    --dry-run=client -o yaml | kubectl_ apply -f - >/dev/null
  step "KServe" -- kubectl_ -n kserve rollout status deployment/kserve-controller-manager --timeout 180s >&2
}

# --- a node of our own ---

PKI=$STATE/pki

# sign NAME SUBJECT EXTENSIONS: a key and a certificate of our authority.
sign() {
  openssl req -new -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout "$PKI/$1.key" -subj "$2" 2>/dev/null |
    openssl x509 -req -CA "$PKI/ca.crt" -CAkey "$PKI/ca.key" -CAcreateserial -days 3650 -out "$PKI/$1.crt" \
      -extfile <(printf '%s\n' "$3") 2>/dev/null
}

make_pki() {
  [[ -e $PKI/done ]] && return
  mkdir -p "$PKI" && chmod 700 "$PKI"
  openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 3650 -subj /CN=pilotage-node \
    -keyout "$PKI/ca.key" -out "$PKI/ca.crt" 2>/dev/null
  local names=DNS:localhost,IP:127.0.0.1,IP:10.96.0.1,IP:$NODE_IP name
  for name in kubernetes kubernetes.default kubernetes.default.svc kubernetes.default.svc.cluster.local; do
    names+=,DNS:$name
  done
  sign server /CN=kube-apiserver "subjectAltName=$names
extendedKeyUsage=serverAuth"
  sign admin /O=system:masters/CN=pilotage-admin extendedKeyUsage=clientAuth
  openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out "$PKI/sa.key" 2>/dev/null
  openssl pkey -in "$PKI/sa.key" -pubout -out "$PKI/sa.pub"
  touch "$PKI/done"
}

make_kubeconfig() {
  cat >"$KUBECONFIG_FILE.new" <<YAML
apiVersion: v1
kind: Config
current-context: pilotage
contexts: [{name: pilotage, context: {cluster: pilotage, user: admin}}]
clusters: [{name: pilotage, cluster: {server: "https://$NODE_IP:6443", certificate-authority-data: $(base64 -w0 "$PKI/ca.crt")}}]
users: [{name: admin, user: {client-certificate-data: $(base64 -w0 "$PKI/admin.crt"), client-key-data: $(base64 -w0 "$PKI/admin.key")}}]
YAML
  chmod 600 "$KUBECONFIG_FILE.new" && mv "$KUBECONFIG_FILE.new" "$KUBECONFIG_FILE"
}

start_node() {
  rm -rf "$STATE/log"
  mkdir -p "$STATE/node" "$STATE/log" "$ARTEFACTS" && chmod 777 "$ARTEFACTS"
  make_pki
  make_kubeconfig
  mkdir -p "$IMAGES"
  [[ -e $IMAGES/pause-$PAUSE_VERSION.tar ]] ||
    archive_program "$IMAGES/pause-$PAUSE_VERSION.tar" "localhost/pause:$PAUSE_VERSION" "pause-$PAUSE_VERSION"
  cp "$HERE/node.sh" "$HERE/lib.sh" "$HERE/cluster.yaml" "$STATE/node/"
  # What unshare was started as stays its number: bash writes it down and becomes unshare.
  # shellcheck disable=SC2016
  as_root env PILOTAGE_CACHE="$CACHE" setsid --fork bash -c '
    . "$1/lib.sh"; printf "%s %s\n" $$ "$(started_at $$)" >"$STATE/node.pid"
    cd /; exec unshare --mount --net --pid --fork --kill-child --mount-proc bash "$1/node.sh" "$CACHE"' \
    - "$STATE/node" </dev/null >"$STATE/log/node.log" 2>&1 9>&-
  await 5 "the node's first process" first_process
  as_root ip link add "$HOST_LINK" type veth peer name eth0 netns "$(first_process)"
  as_root ip addr add "$HOST_IP/30" dev "$HOST_LINK"
  as_root ip link set "$HOST_LINK" up
}

# ready_or_gone: ends the wait early when the node has died.
ready_or_gone() { ! node_pid >/dev/null || is_node_up; }

up_node() {
  "$HERE/check.sh"
  "$HERE/binaries.sh"
  "$HERE/packages.sh"
  step "clear what an earlier run left" -- "$HERE/down.sh" --keep-files
  if ip link show "$HOST_LINK" >/dev/null 2>&1; then
    die "$HOST_LINK is there and not ours: a node of another PILOTAGE_CACHE? Its down.sh takes it away"
  fi
  step "start the node" -- start_node
  step "API server, node and KServe ready" -- await 120 "the node; its words are in $STATE/log" ready_or_gone
  node_pid >/dev/null || { tail -n 20 "$STATE/log/node.log" >&2; die "the node died; more is in $STATE/log"; }
  kubectl_ apply -f "$HERE/artefacts-pv.yaml" >/dev/null
}

choose() {
  if [[ ${CLUSTER:-} == current ]]; then echo current
  elif [[ ${CLUSTER:-} == node ]]; then echo node
  elif [[ ${CLUSTER:-} == kind ]] || docker info >/dev/null 2>&1; then echo kind
  else echo node; fi
}

main() {
  local way; way=$(choose)
  mkdir -p "$BIN/path" "$STATE"
  if [[ $way == current ]]; then
    use_current; print_env "${KUBECONFIG:-$HOME/.kube/config}"; return
  fi
  if [[ ${1:-} == --print-env ]]; then print_env "$KUBECONFIG_FILE"; return; fi
  one_at_a_time up
  if [[ $way == node ]] && is_node_up 2>/dev/null; then
    say "already up: node $NODE_NAME at https://$NODE_IP:6443"
  else
    step "cluster up ($way)" -- "up_$way"
  fi
  ln -sfn "../kubectl-$KUBERNETES_VERSION" "$BIN/path/kubectl"
  print_env "$KUBECONFIG_FILE"
}

main "$@"
