#!/usr/bin/env bash
# Every test. e2e on Kubernetes runs where a Kubernetes can be had; where none can, the last line says so (in CI: failure).
set -uo pipefail
cd "$(dirname "$0")/.." || exit
step=hack/step.sh
hack/cluster/check.sh
cluster=$?
hack/check.sh --transformers --vllm || exit 2
$step "set up .venv (locked requirements, transformers)" hack/setup.sh --transformers || exit 1
# What later steps install is fetched while unit tests run on the other core; a step that finds it missing says why.
{ hack/screens/setup.sh && hack/vllm/setup.sh; } >/dev/null 2>&1 &
make --no-print-directory verify
verified=$?
wait
[ "$verified" -eq 0 ] || exit 1
screens=
$step "Chromium, form-js and django-helpdesk beside it" hack/screens/setup.sh ||
  screens="; pages in Chromium DID NOT RUN: hack/screens/setup.sh could not install it (said above)"
[ -z "$screens" ] || [ "${CI:-}" != true ] || exit 1
pages=(tests/contract/test_*_in_chromium.py tests/contract/test_helpdesk.py tests/contract/test_page_adapter*.py)
$step "contract tests" .venv/bin/python -m pytest -q tests/contract "${pages[@]/#/--ignore=}" -m "not kubernetes and not vllm" ||
  exit 1
# Pages in Chromium beside vLLM: neither times anything. What they said is shown once both are through.
said=$(mktemp)
$step "contract tests, pages in Chromium" .venv/bin/python -m pytest -q "${pages[@]}" >"$said" 2>&1 &
paged=$!
hack/vllm/test.sh
served=$?
wait "$paged"
paged=$?
cat "$said"
rm -f "$said"
[ "$served" -eq 0 ] && [ "$paged" -eq 0 ] || exit 1
$step "e2e, local processes" .venv/bin/python -m pytest -q tests/e2e -m "not kubernetes" || exit 1
if [ "$cluster" -ne 0 ]; then
  echo "all other tests passed; e2e on Kubernetes DID NOT RUN: no Kubernetes can be had here (what is missing is said above)$screens"
  [ "${CI:-}" != true ]
  exit
fi
$step "Kubernetes" hack/cluster/up.sh || exit 1
hack/cluster/binaries.sh helm || exit 1
eval "$(hack/cluster/up.sh --print-env)"
$step "contract tests, Kubernetes" .venv/bin/python -m pytest -q tests/contract -m kubernetes || exit 1
$step "e2e, Kubernetes" .venv/bin/python -m pytest -q tests/e2e -m kubernetes || exit 1
$step "take the Kubernetes away" hack/cluster/down.sh || exit 1
echo "all tests passed, e2e on Kubernetes included$screens"
