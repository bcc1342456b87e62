#!/usr/bin/env bash
# Makes .venv with the locked requirements and this project in it; with --transformers all that trains and tests them too
# (torch: 5 GB). Does nothing when that is so already.
set -euo pipefail
cd "$(dirname "$0")/.."
# The lists are whole, so nothing else comes with them (requirements/overrides.txt says what is kept out).
install() { .venv/bin/python -m pip install --quiet --disable-pip-version-check --no-deps "$@"; }
stamp=.venv/.installed-$(cat requirements/dev.txt pyproject.toml | sha256sum | cut -c1-16)
if [ ! -e "$stamp" ]; then
  hack/check.sh "$@"
  [ -x .venv/bin/python ] || "${PYTHON:-python3}" -m venv .venv
  install -r requirements/dev.txt
  install --editable .
  rm -f .venv/.installed-*
  touch "$stamp"
fi
[ "${1:-}" = --transformers ] || exit 0
stamp=.venv/.transformers-$(sha256sum requirements/transformers.txt | cut -c1-16)
[ -e "$stamp" ] && exit 0
hack/check.sh --transformers
install -r requirements/transformers.txt
rm -f .venv/.transformers-*
touch "$stamp"
