#!/usr/bin/env bash
# Brings up a Kubernetes with a Ready node, a name service and KServe, and prints the line that lets kubectl find it:
#   eval "$(hack/cluster/up.sh)"
# CLUSTER=current takes the cluster that kubectl already speaks to; else kind where Docker answers; else a node of our
# own in namespaces of its own (README.md). Run again, it takes what is healthy as it is and repairs the rest.
# --print-env only prints that line.
set -euo pipefail
. "$(dirname "$0")/lib.sh"

# print_env KUBECONFIG: NodePorts answer at PILOTAGE_NODE_IP, as far as the host reaches the node at all.
print_env() {
  local address
  address=$(KUBECONFIG=$1 "$(kubectl_program)" --request-timeout=5s get nodes \
    -o 'jsonpath={.items[0].status.addresses[?(@.type=="InternalIP")].address}') || die "no cluster is up"
  printf 'export KUBECONFIG=%q\nexport PILOTAGE_NODE_IP=%q\n' "$1" "$address"
  [[ -e $STATE/log/audit.log ]] && printf 'export PILOTAGE_AUDIT_LOG=%q\n' "$STATE/log/audit.log"
  # shellcheck disable=SC2016
  { command -v kubectl && command -v promtool && { command -v helm || [[ ! -e $BIN/path/helm ]]; }; } >/dev/null || printf 'export PATH=%q:$PATH\n' "$BIN/path"
}

kubectl_program() { if [[ -x $BIN/path/kubectl ]]; then echo "$BIN/path/kubectl"; else command -v kubectl; fi; }

# --- a cluster that is there ---

use_current() {
  command -v kubectl >/dev/null || die "CLUSTER=current needs kubectl"
  kubectl --request-timeout=10s get --raw /readyz >/dev/null || die "the current context does not answer"
  kubectl get crd inferenceservices.serving.kserve.io >/dev/null 2>&1 ||
    say "no KServe here: serving needs it (v0.17, Standard mode)"
  say "current context: $(kubectl config current-context)"
}

# --- kind ---

build_kind() {
  GOBIN=$BIN GOFLAGS=-buildvcs=false go install "sigs.k8s.io/kind@$KIND_VERSION" && mv "$BIN/kind" "$BIN/kind-$KIND_VERSION"
}

create_kind() {
  kind_ create cluster --name pilotage --kubeconfig "$KUBECONFIG_FILE" --wait 120s --config <(fill kind.yaml) >&2
}

kserve_on_kind() {
  make_pki   # the controller wants a certificate to start, though it serves no webhook here
  kubectl_ apply --server-side -f "$BIN/kserve-crds-$KSERVE_VERSION.yaml" >/dev/null
  kubectl_ apply -f "$HERE/kserve.yaml" -f "$HERE/kserve-kind.yaml" >/dev/null
  kubectl_ -n kserve create secret tls kserve-webhook-server-cert --cert "$PKI/server.crt" --key "$PKI/server.key" \
    --dry-run=client -o yaml | kubectl_ apply -f - >/dev/null
  kubectl_ -n kserve rollout status deployment/kserve-controller-manager --timeout 180s >&2
}

up_kind() {
  command -v kind >/dev/null || [[ -x $BIN/kind-$KIND_VERSION ]] || step "build kind" -- build_kind
  "$HERE/binaries.sh" kubectl crds
  mkdir -p "$ARTEFACTS" && chmod 777 "$ARTEFACTS"
  if kind_ get clusters 2>/dev/null | grep -qx pilotage; then
    kind_ export kubeconfig --name pilotage --kubeconfig "$KUBECONFIG_FILE" >&2
  else
    step "kind create cluster" -- create_kind
  fi
  step "KServe" -- kserve_on_kind
  kubectl_ apply -f "$HERE/artefacts-pv.yaml" >/dev/null
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
  local hosts=DNS:localhost,IP:127.0.0.1,IP:10.96.0.1,IP:$NODE_IP name
  for name in kubernetes kubernetes.default kubernetes.default.svc kubernetes.default.svc.cluster.local; do
    hosts+=,DNS:$name
  done
  sign server /CN=kube-apiserver "subjectAltName=$hosts
extendedKeyUsage=serverAuth"
  sign admin /O=system:masters/CN=pilotage-admin extendedKeyUsage=clientAuth
  openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out "$PKI/sa.key" 2>/dev/null
  openssl pkey -in "$PKI/sa.key" -pubout -out "$PKI/sa.pub"
  touch "$PKI/done"
}

make_kubeconfig() {
  CA=$(base64 -w0 "$PKI/ca.crt") CERTIFICATE=$(base64 -w0 "$PKI/admin.crt") KEY=$(base64 -w0 "$PKI/admin.key") \
    fill kubeconfig.yaml >"$KUBECONFIG_FILE.new"
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
  cp -r "$HERE/node.sh" "$HERE/lib.sh" "$HERE/dns.yaml" "$HERE/kserve.yaml" "$HERE/settings" "$STATE/node/"
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
    curl -sk --max-time 2 -o /dev/null "https://$NODE_IP:6443/" &&
      die "a node of another PILOTAGE_CACHE answers at $NODE_IP: its down.sh first"
    as_root ip link del "$HOST_LINK"
  fi
  step "start the node" -- start_node
  step "API server, node and KServe ready" -- await 120 "the node; its words are in $STATE/log" ready_or_gone
  node_pid >/dev/null || { tail -n 20 "$STATE/log/node.log" >&2; die "the node died; more is in $STATE/log"; }
  kubectl_ apply -f "$HERE/artefacts-pv.yaml" >/dev/null
}

main() {
  local way; way=$(choose_way)
  mkdir -p "$BIN/path" "$STATE"
  ln -sfn "../kubectl-$KUBERNETES_VERSION" "$BIN/path/kubectl"
  ln -sfn "../promtool-$PROMETHEUS_VERSION" "$BIN/path/promtool"
  if [[ $way == current ]]; then
    use_current; print_env "${KUBECONFIG:-$HOME/.kube/config}"; return
  fi
  # Without the link, that address would be asked for on the host's own network.
  if [[ $way == node && ${1:-} == --print-env ]]; then node_pid >/dev/null || die "no node is up"; fi
  if [[ ${1:-} == --print-env ]]; then print_env "$KUBECONFIG_FILE"; return; fi
  one_at_a_time up
  if [[ $way == node ]] && is_node_up 2>/dev/null; then
    say "already up: node $NODE_NAME at https://$NODE_IP:6443"
  else
    step "cluster up ($way)" -- "up_$way"
  fi
  print_env "$KUBECONFIG_FILE"
}

main "$@"
