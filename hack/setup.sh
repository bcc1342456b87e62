#!/usr/bin/env bash
# Makes .venv with the locked requirements and this project in it. Does nothing when that is so already.
set -euo pipefail
cd "$(dirname "$0")/.."
stamp=.venv/.installed-$(cat requirements/dev.txt pyproject.toml | sha256sum | cut -c1-16)
[ -e "$stamp" ] && exit 0
hack/check.sh
[ -x .venv/bin/python ] || "${PYTHON:-python3}" -m venv .venv
.venv/bin/python -m pip install --quiet --disable-pip-version-check -r requirements/dev.txt
.venv/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --editable .
rm -f .venv/.installed-*
touch "$stamp"
