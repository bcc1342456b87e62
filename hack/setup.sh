#!/usr/bin/env bash
# Makes .venv with the locked requirements and this project in it. Does nothing when that is so already.
set -euo pipefail
cd "$(dirname "$0")/.."
python=${PYTHON:-python3}
stamp=.venv/.installed-$(cat requirements/dev.txt pyproject.toml | sha256sum | cut -c1-16)
[ -e "$stamp" ] && exit 0
missing=()
"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || missing+=("Python 3.11 or newer (set PYTHON=/path/to/python3.11)")
"$python" -c 'import venv, ensurepip' 2>/dev/null || missing+=("venv (apt-get install python3-venv)")
[ "$(df -Pk . | awk 'NR==2 {print $4}')" -ge 2000000 ] || missing+=("2 GB of free disk here")
if [ "${#missing[@]}" -gt 0 ]; then
  printf 'missing: %s\n' "${missing[@]}" >&2
  exit 2
fi
[ -x .venv/bin/python ] || "$python" -m venv .venv
.venv/bin/python -m pip install --quiet --disable-pip-version-check -r requirements/dev.txt
.venv/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --editable .
rm -f .venv/.installed-*
touch "$stamp"
