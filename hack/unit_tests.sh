#!/usr/bin/env bash
# Unit tests on two cores: of the method and what learns by it, and beside them all others. None of them times anything.
set -uo pipefail
cd "$(dirname "$0")/.." || exit
learning=(tests/unit/core tests/unit/trainer)
said=$(mktemp)
trap 'rm -f "$said"' EXIT
.venv/bin/python -m pytest -q "${learning[@]}" >"$said" 2>&1 &
beside=$!
.venv/bin/python -m pytest -q -p no:cacheprovider tests/unit "${learning[@]/#/--ignore=}"
others=$?
wait "$beside"
learned=$?
cat "$said"
[ "$others" -eq 0 ] && [ "$learned" -eq 0 ]
