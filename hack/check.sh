#!/usr/bin/env bash
# Says at once all that this machine lacks, each with the line that mends it. Changes nothing.
# Usage: hack/check.sh [--cluster]   exit 0: ready; exit 2: something is missing (with --cluster also for a Kubernetes).
set -uo pipefail
cd "$(dirname "$0")/.."
python=${PYTHON:-python3}
missing=0
lacks() {
  printf 'missing: %s\n   mend: %s\n' "$1" "$2" >&2
  missing=1
}
"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null ||
  lacks "Python 3.11 or newer ($python is not)" "apt-get install -y python3 python3-venv, or PYTHON=/path/to/python3.11"
"$python" -c 'import venv, ensurepip' 2>/dev/null || lacks "venv for $python" "apt-get install -y python3-venv"
[ -d .venv ] || [ "$(df -Pk . | awk 'NR==2 {print $4}')" -ge 2000000 ] || lacks "2 GB of free disk here" "free some"
[ "$(awk '/MemTotal/ {print int($2 / 1048576 + 0.5)}' /proc/meminfo 2>/dev/null || echo 99)" -ge 3 ] ||
  lacks "3 GB of memory" "a larger machine"
if [ "${1:-}" = --cluster ]; then
  hack/cluster/check.sh || missing=1
fi
[ "$missing" -eq 0 ] || exit 2
