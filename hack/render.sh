#!/usr/bin/env bash
# Writes config/default from charts/pilotage, which is the one source of both: what `kubectl apply -k` installs is what
# the chart installs with its own values. With --check: only says which files are not current. Needs helm on PATH.
set -euo pipefail
cd "$(dirname "$0")/.."
stale=()
for part in admission rbac controller gateway network-policy; do
  file=config/default/$part.yaml
  text=$(helm template pilotage charts/pilotage --namespace pilotage-system --kube-version 1.34 \
    --show-only "templates/$part.yaml" 2> >(grep -v 'symbolic link' >&2) | sed '/^# Source: /d; 1{/^---$/d}')
  text="# Rendered from charts/pilotage by hack/render.sh. Do not edit."$'\n'"$text"
  if [[ ${1:-} == --check ]]; then
    [[ $text == "$(<"$file")" ]] || stale+=("$file")
  else
    printf '%s\n' "$text" >"$file"
  fi
done
((${#stale[@]} == 0)) || { echo "not current: ${stale[*]} (run hack/render.sh)" >&2; exit 1; }
