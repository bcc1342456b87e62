#!/usr/bin/env bash
# ShellCheck over every shell script that Git knows. Where there is none, Debian's is unpacked into the cache, without root.
set -euo pipefail
cd "$(dirname "$0")/.."
program=$(command -v shellcheck) || {
  folder=${PILOTAGE_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/pilotage}/shellcheck
  program=$folder/usr/bin/shellcheck
  [ -x "$program" ] || {
    command -v apt-get >/dev/null || { echo "missing: shellcheck (and no apt-get to fetch it with)" >&2; exit 2; }
    mkdir -p "$folder"
    (cd "$folder" && apt-get download -qq shellcheck 2>/dev/null && dpkg -x shellcheck_*.deb . && rm shellcheck_*.deb)
  }
}
mapfile -t scripts < <(git ls-files '*.sh' .ci/run)
"$program" --external-sources --source-path=SCRIPTDIR "${scripts[@]}"
