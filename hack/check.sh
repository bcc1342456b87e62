#!/usr/bin/env bash
# Says at once all that this machine lacks, each with the line that mends it. Changes nothing.
# Usage: hack/check.sh [--cluster] [--transformers] [--vllm]   exit 0: ready; exit 2: something is missing
# (also for a Kubernetes, for torch in .venv, for the real vLLM beside it).
set -uo pipefail
cd "$(dirname "$0")/.." || exit
python=${PYTHON:-python3}
given=" $* "
missing=0
asked() { [[ $given == *" $1 "* ]]; }
lacks() {
  printf 'missing: %s\n   mend: %s\n' "$1" "$2" >&2
  missing=1
}
"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null ||
  lacks "Python 3.11 or newer ($python is not)" "apt-get install -y python3 python3-venv, or PYTHON=/path/to/python3.11"
"$python" -c 'import venv, ensurepip' 2>/dev/null || lacks "venv for $python" "apt-get install -y python3-venv"
wanted_gb=0
[ -d .venv ] || ((wanted_gb += 2))
! asked --transformers || [ -e ".venv/.transformers-$(sha256sum requirements/transformers.txt | cut -c1-16)" ] ||
  ((wanted_gb += 8)) # torch
[ "$(df -Pk . | awk 'NR==2 {print int($4 / 1000000)}')" -ge "$wanted_gb" ] ||
  lacks "$wanted_gb GB of free disk here" "free some"
[ "$(awk '/MemTotal/ {print int($2 / 1048576 + 0.5)}' /proc/meminfo 2>/dev/null || echo 99)" -ge 3 ] ||
  lacks "3 GB of memory" "a larger machine"
if asked --vllm && [ "$(uname -sm)" != "Linux x86_64" ]; then
  lacks "Linux on x86_64 (vLLM's CPU wheel is for nothing else; this is $(uname -sm))" "another machine"
fi
if asked --cluster; then hack/cluster/check.sh || missing=1; fi
[ "$missing" -eq 0 ] || exit 2
