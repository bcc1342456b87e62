#!/usr/bin/env bash
# Asks of the cluster that up.sh made what the project asks of a cluster, and says how long each answer took. Leaves nothing but Prometheus.
set -euo pipefail
. "$(dirname "$0")/lib.sh"
environment=$("$HERE/up.sh" --print-env)
eval "$environment"

inside() { kubectl_ -n smoke exec server -- python3 -c "import urllib.request as u; print(u.urlopen('$1', timeout=5).read())"; }
pod_ready() { kubectl_ -n smoke wait --for condition=Ready pod/server --timeout 60s >/dev/null; }
service_by_name() { await 20 "a Service by name" inside http://web.smoke.svc.cluster.local/ && inside http://web/ >/dev/null; }
node_port() { await 10 "the NodePort" curl -sf --max-time 2 "http://$PILOTAGE_NODE_IP:30999/"; }
logs() { kubectl_ -n smoke logs server | grep -q GET || kubectl_ -n smoke logs server >/dev/null; }
outside_names_fail_at_once() {
  kubectl_ -n smoke exec server -- python3 -c "
import socket, time
began = time.monotonic()
try: socket.getaddrinfo('nowhere.example', 80)
except socket.gaierror: assert time.monotonic() - began < 1"
}
model_ready() { kubectl_ -n smoke wait --for condition=Ready inferenceservice/model --timeout 90s >/dev/null; }
model_answers() { await 10 "the model's Service" inside http://model-predictor.smoke.svc.cluster.local/health; }
prometheus_ready() {
  kubectl_ apply -f "$HERE/prometheus.yaml" >/dev/null
  kubectl_ -n monitoring rollout status deployment/prometheus --timeout 90s >/dev/null
}
is_scraped() { curl -sf "http://$PILOTAGE_NODE_IP:30990/api/v1/query?query=smoke_total" | grep -q '"pod":"server"'; }
claim_binds() {
  kubectl_ create namespace star --dry-run=client -o yaml | kubectl_ apply -f - >/dev/null
  kubectl_ -n star get pvc artefacts >/dev/null 2>&1 && return
  kubectl_ apply -f "$HERE/artefacts-claim.yaml" >/dev/null
  kubectl_ -n star wait --for jsonpath='{.status.phase}'=Bound pvc/artefacts --timeout 30s >/dev/null
}

kubectl_ delete namespace smoke --ignore-not-found >/dev/null
kubectl_ apply -f "$HERE/smoke.yaml" >/dev/null
step "pod Ready" -- pod_ready
step "Service by name" -- service_by_name
step "NodePort from the host" -- node_port
step "logs" -- logs
step "a name outside fails at once" -- outside_names_fail_at_once
step "InferenceService Ready" -- model_ready
step "InferenceService answers" -- model_answers
step "Prometheus Ready" -- prometheus_ready
step "Prometheus scrapes the pod" -- await 20 "a scrape" is_scraped
step "artefact claim Bound" -- claim_binds
kubectl_ delete namespace smoke --wait=false >/dev/null
say "all well"
