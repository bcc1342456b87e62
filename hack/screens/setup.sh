#!/usr/bin/env bash
# What contract tests of pages open: Chromium from Debian, form-js and axe-core from npm, django-helpdesk in .venv/screens
# (locked in requirements/screens.txt). Does nothing where all is there.
set -euo pipefail
cd "$(dirname "$0")/../.."
FORM_JS=1.23.0
AXE=4.14.1
missing=()
command -v chromium >/dev/null || command -v chromium-browser >/dev/null || command -v google-chrome >/dev/null ||
  missing+=(chromium fonts-dejavu-core)
command -v npm >/dev/null || missing+=(npm)
if [ ${#missing[@]} -gt 0 ]; then
  command -v apt-get >/dev/null || { echo "missing: ${missing[*]} (and no apt-get to install them with)" >&2; exit 2; }
  root=()
  [ "$(id -u)" -eq 0 ] || root=(sudo -n)
  "${root[@]}" apt-get update -qq || true
  DEBIAN_FRONTEND=noninteractive "${root[@]}" apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
fi
venv=.venv/screens
stamp=$venv/.installed-$(cat requirements/screens.txt hack/screens/setup.sh | sha256sum | cut -c1-16)
[ -e "$stamp" ] && exit 0
rm -rf "$venv"
.venv/bin/python -m venv --without-pip "$venv"
.venv/bin/python -m pip --python "$venv/bin/python" install --quiet --disable-pip-version-check --no-deps -r requirements/screens.txt
(cd "$venv" && npm install --silent --no-audit --no-fund --no-package-lock "@bpmn-io/form-js@$FORM_JS" "axe-core@$AXE")
touch "$stamp"
