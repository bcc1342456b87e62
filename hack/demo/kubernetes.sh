#!/usr/bin/env bash
# The main job on a real Kubernetes: brings one up, installs Pilotage and the example afresh, runs the demo.
# Arguments are `pilotage demo`'s (--star FILE, --faults, …). Needs .venv (make setup); can be stopped and started again.
# DATA=star: STAR's dialogues, replayed, in place of the desk's, in closed loop. BACKEND=transformers: pairs of
# transformers on those, which need an image with torch and take longer.
set -euo pipefail
cd "$(dirname "$0")/../.."
step=hack/step.sh
namespace=${DATA:-desk}
example=examples/$namespace images=()
set -- --data "$namespace" "$@"
if [ "${BACKEND:-}" = transformers ]; then
  [ "$namespace" = star ] || { echo "transformers play STAR: DATA=star" >&2 && exit 2; }
  example=examples/star-transformers images=(base prometheus transformers)
  set -- --plan transformers --limit-seconds 1800 "$@"
fi
kubectl_quiet() { kubectl "$@" >/dev/null; }

hack/check.sh --cluster || exit 2
$step "Kubernetes" hack/cluster/up.sh
eval "$(hack/cluster/up.sh --print-env)"
$step "image from these sources" hack/cluster/images.sh "${images[@]}"
image=$(hack/cluster/images.sh "${images[@]}" | tail -n 1)

reset() { # what an earlier run left: dialogues are played once, so sessions have to start from nothing
  kubectl delete namespace star desk pilotage-system --ignore-not-found --wait=true --timeout=120s
  kubectl delete -f hack/cluster/artefacts-pv.yaml --ignore-not-found --wait=true --timeout=60s
  sed "s/namespace: star/namespace: $namespace/" hack/cluster/artefacts-pv.yaml | kubectl_quiet apply -f -
}

alerts() { # config/monitoring/alerts.yaml as a rules file: there is no Prometheus operator here
  .venv/bin/python -c 'import sys, yaml; print(yaml.safe_dump(yaml.safe_load(sys.stdin)["spec"]))' <config/monitoring/alerts.yaml |
    kubectl create configmap prometheus-rules -n monitoring --from-file=alerts.yaml=/dev/stdin --dry-run=client -o yaml
}

install() {
  kubectl create namespace monitoring --dry-run=client -o yaml | kubectl_quiet apply -f -
  alerts | kubectl_quiet apply -f -
  kubectl_quiet apply -f hack/cluster/prometheus.yaml
  kubectl_quiet apply -f config/default/namespace.yaml
  # The simulated BPM is the installation's one source: its credential is made here, and read by the simulator.
  mkdir -p out/demo && rm -f out/demo/bpm.token
  (umask 077 && head -c 24 /dev/urandom | base64 | tr '+/' '-_' >out/demo/bpm.token)
  printf '[{"source":"","namespaces":["%s"],"secret":"%s"}]' "$namespace" "$(cat out/demo/bpm.token)" |
    kubectl_quiet -n pilotage-system create secret generic pilotage-sources --from-file=sources.json=/dev/stdin
  kubectl kustomize config/demo | sed "s|localhost/pilotage:[A-Za-z0-9._-]*|$image|g" |
    kubectl_quiet apply --server-side --force-conflicts -f -
  kubectl wait --for=condition=Established --timeout=30s crd/processclusters.pilotage.dev >/dev/null
  kubectl -n pilotage-system rollout status deployment/pilotage-controller --timeout=90s
  kubectl -n pilotage-system rollout status deployment/pilotage-gateway --timeout=90s
  kubectl -n monitoring rollout status deployment/prometheus --timeout=90s
  kubectl_quiet apply -k "$example"
}

export -f reset alerts install kubectl_quiet
export image example namespace
$step "what an earlier run left is taken away" bash -euo pipefail -c reset
$step "install Pilotage (config/demo) and the example ($example)" bash -euo pipefail -c install
$step "the main job" .venv/bin/pilotage demo "$@"
