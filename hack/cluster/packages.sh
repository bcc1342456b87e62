#!/usr/bin/env bash
# Debian packages of a node and of image building, downloaded and unpacked into $PILOTAGE_CACHE/packages/<digest of the list>.
# Nothing is installed: in_packages (lib.sh) lays that tree over /usr and /etc for one command, in a mount namespace
# of its own. So a container engine that the host has keeps its files, its services and its versions.
set -euo pipefail
. "$(dirname "$0")/lib.sh"

# Lists of our own, so that neither root nor the host's lists are needed; installed packages still count as installed.
apt_get() {
  apt-get -qq -o Debug::NoLocking=1 -o APT::Sandbox::User=root \
    -o "Dir::State::Lists=$PACKAGES/lists" -o "Dir::Cache=$PACKAGES/apt" "$@"
}

download() {
  local missing=() name
  for name in "${DEBIAN_PACKAGES[@]}"; do
    dpkg-query -W -f '${Status}' "$name" 2>/dev/null | grep -q 'ok installed' || missing+=("$name")
  done
  ((${#missing[@]})) || return 0
  mkdir -p "$PACKAGES/lists/partial" "$PACKAGES/apt/archives/partial"
  # A source that does not answer is no reason to stop while the next command finds what it wants.
  apt_get update || say "some package lists could not be had"
  apt_get install -y --download-only --no-install-recommends "${missing[@]}"
}

unpack() {
  local tree=$TREE.new archive folder name
  rm -rf "$tree" && mkdir -p "$tree/usr/sbin" "$tree/etc"
  shopt -s nullglob
  for archive in "$PACKAGES"/apt/archives/*.deb; do dpkg -x "$archive" "$tree"; done
  # Packages still ship files under /lib and /sbin, which are links into /usr on any host of today.
  for folder in bin sbin lib lib64; do
    [[ -d $tree/$folder && ! -L $tree/$folder ]] || continue
    mkdir -p "$tree/usr/$folder" && cp -a "$tree/$folder/." "$tree/usr/$folder/" && rm -rf "${tree:?}/$folder"
  done
  # What the package's own set-up would have linked.
  if [[ -e $tree/usr/sbin/xtables-nft-multi ]]; then
    for name in iptables iptables-save iptables-restore ip6tables ip6tables-save ip6tables-restore; do
      ln -sf xtables-nft-multi "$tree/usr/sbin/$name"
    done
  fi
  # Image builders ask for a policy; ours come from files made here.
  mkdir -p "$tree/etc/containers"
  printf '{"default": [{"type": "insecureAcceptAnything"}]}\n' >"$tree/etc/containers/policy.json"
  mv "$tree" "$TREE"
}

main() {
  one_at_a_time packages
  [[ -d $TREE ]] && return
  step "download Debian packages" -- download
  step "unpack them" -- unpack
  rm -rf "$PACKAGES/lists" "$PACKAGES/apt"
}

main "$@"
