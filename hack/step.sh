#!/usr/bin/env bash
# Runs one step of a longer job: says what it does, and how long it took. Usage: hack/step.sh "what" command [argument ...]
set -uo pipefail
what=$1
shift
printf '\n==> %s\n' "$what"
started=$(date +%s.%N)
"$@"
rc=$?
took=$(awk -v a="$started" -v b="$(date +%s.%N)" 'BEGIN { printf "%.1f", b - a }')
if [ "$rc" -eq 0 ]; then
  printf '    done: %s (%s s)\n' "$what" "$took"
else
  printf '    FAILED (exit %s): %s (%s s)\n' "$rc" "$what" "$took" >&2
fi
exit "$rc"
