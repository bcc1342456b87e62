#!/usr/bin/env bash
# Takes the cluster away: processes, links, mounts, control groups, state. Keeps what was built and downloaded.
# --purge: that too. --keep-files: clears the way for a start, keeps kubeconfig, keys and artefacts.
set -euo pipefail
. "$(dirname "$0")/lib.sh"

cgroup_folders() { find /sys/fs/cgroup -maxdepth 2 -type d -name pilotage 2>/dev/null; }

# Folders of dead containers empty a moment after the processes are gone.
remove_cgroups() {
  local folder
  cgroup_folders | while read -r folder; do
    as_root find "$folder" -depth -type d -exec rmdir {} + 2>/dev/null || true
  done
  [[ -z $(cgroup_folders) ]]
}

is_gone() { ! node_pid; }

stop_node() {
  local holder
  if holder=$(node_pid); then
    # Process 1 of the namespaces dies with its parent, and everything in them with it.
    as_root kill -KILL "$holder"
    await 10 "the node's end" is_gone
  fi
  # The kernel takes the link away with the namespace, seconds later; the next start wants its name now.
  if [[ -e $STATE/node.pid ]] && ip link show "$HOST_LINK" >/dev/null 2>&1; then as_root ip link del "$HOST_LINK"; fi
  await 10 "the end of its control groups" remove_cgroups
  as_root rm -rf --one-file-system "$STATE/node"
  rm -f "$STATE/node.pid"
}

main() {
  [[ -d $CACHE ]] || return 0
  stop_node
  [[ ${1:-} == --keep-files ]] && return
  if [[ $(choose_way) == kind ]] && kind_ get clusters 2>/dev/null | grep -qx pilotage; then
    kind_ delete cluster --name pilotage
  fi
  as_root rm -rf /run/pilotage-buildah
  as_root rm -rf --one-file-system "$STATE"
  if [[ ${1:-} == --purge ]]; then as_root rm -rf --one-file-system "$CACHE"; fi
  say "the cluster is gone"
}

main "$@"
