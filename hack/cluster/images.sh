#!/usr/bin/env bash
# Builds the images that pods here run and hands them to the node, without Docker and without a registry.
#   images.sh [base] [prometheus] [pilotage]      none named: these three
#   images.sh transformers                        the project's image with torch in it: 6 GB, 25 GB while it is made
# The last line on stdout is the project's image reference, localhost/pilotage[-transformers]:<digest of its sources>.
# On kind, docker builds and kind loads; with CLUSTER=current it says what is left to its user.
set -euo pipefail
. "$(dirname "$0")/lib.sh"

BASE_IMAGE=localhost/pilotage-base:$DEBIAN_SUITE
PROMETHEUS_IMAGE=localhost/prometheus:$PROMETHEUS_VERSION
SOURCES=(LICENSE README.md pyproject.toml requirements core operator gateway trainer simulator cli)

# --- without Docker ---

# have IMAGE: does the node have it?
have() { in_node ctr -n k8s.io images ls -q | grep -qx "$1"; }

# to_node IMAGE ARCHIVE
to_node() {
  node_pid >/dev/null || { say "no node is up; run this again after up.sh to hand it $1"; return; }
  have "$1" || step "import $1" -- import "$2"
}
import() { in_node ctr -n k8s.io images import - <"$1" >/dev/null; }

# A small Debian with Python: 40 MB less than minbase, without what nobody reads in a container.
base_layer() {
  local exclude=() path
  for path in '/usr/share/man/*' '/usr/share/doc/*' '/usr/share/locale/*' '/usr/share/info/*'; do
    exclude+=("--dpkgopt=path-exclude=$path")
  done
  in_packages mmdebstrap --quiet --variant=minbase "${exclude[@]}" --include=python3,python3-venv,ca-certificates \
    "$DEBIAN_SUITE" "$IMAGES/base.new.tar" >&2
  as_root chown "$(id -u):$(id -g)" "$IMAGES/base.new.tar"
  mv "$IMAGES/base.new.tar" "$IMAGES/base.layer.tar"
}

base() {
  local file=$IMAGES/base-$DEBIAN_SUITE.tar
  [[ -e $IMAGES/base.layer.tar ]] || step "base layer (mmdebstrap)" -- base_layer
  [[ -e $file ]] || archive_image "$file" "$BASE_IMAGE" '{"Cmd": ["python3"], "Env": ["PATH=/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin"]}' \
    "$IMAGES/base.layer.tar"
  to_node "$BASE_IMAGE" "$file"
}

prometheus() {
  local file=$IMAGES/prometheus-$PROMETHEUS_VERSION.tar
  "$HERE/binaries.sh" prometheus
  [[ -e $file ]] || archive_program "$file" "$PROMETHEUS_IMAGE" "prometheus-$PROMETHEUS_VERSION"
  to_node "$PROMETHEUS_IMAGE" "$file"
}

# to_layout IMAGE LAYOUT: the builder's image as an OCI layout, and its manifest's digest in LAYOUT/digest. The builder
# gzips every layer that the layout does not hold as it is, at each push. So the large ones (requirements, and what is
# below) are put there once, as they stand in an archive: later pushes find them and write only what changed.
to_layout() {
  local blobs=$2/blobs/sha256 large archive
  mkdir -p "$blobs"
  mapfile -t large < <(buildah_ inspect --type image --format '{{range .OCIv1.RootFS.DiffIDs}}{{println .}}{{end}}' "$1" |
    sed -n '1,3s/^sha256://p')
  if (cd "$blobs" && ! ls "${large[@]}" >/dev/null 2>&1); then
    rm -rf "$2" && mkdir -p "$blobs"
    archive=$(mktemp -d "$CACHE/archive.XXXXXX")
    buildah_ push --quiet "$1" "docker-archive:$archive/image.tar" >/dev/null
    tar -C "$archive" -xf "$archive/image.tar" "${large[@]/%/.tar}"
    for digest in "${large[@]}"; do mv "$archive/$digest.tar" "$blobs/$digest"; done
    rm -rf "$archive"
  fi
  buildah_ push --quiet --digestfile "$2/digest" "$1" "oci:$2:latest" >/dev/null
}

# deliver IMAGE LAYOUT: from the builder to the node, sending only the blobs that the node lacks.
deliver() {
  local layout=$2 manifest blobs=() digest present index
  step "write $1" -- to_layout "$1" "$layout"
  manifest=$(<"$layout/digest")
  present=$(in_node ctr -n k8s.io content ls -q)
  for digest in "$manifest" $(grep -o '"digest":"sha256:[0-9a-f]*' "$layout/blobs/sha256/${manifest#*:}" | cut -d'"' -f4); do
    grep -qx "$digest" <<<"$present" || blobs+=("blobs/sha256/${digest#*:}")
  done
  index=$(mktemp -d "$CACHE/index.XXXXXX")
  printf '{"imageLayoutVersion": "1.0.0"}' >"$index/oci-layout"
  printf '{"schemaVersion": 2, "manifests": [{"mediaType": "application/vnd.oci.image.manifest.v1+json", "digest": "%s",
    "size": %d, "annotations": {"io.containerd.image.name": "%s"}}]}' \
    "$manifest" "$(stat -c %s "$layout/blobs/sha256/${manifest#*:}")" "$1" >"$index/index.json"
  # A stream: nobody needs a second copy of gigabytes.
  step "import $1 (${#blobs[@]} new blobs)" -- import <(tar -c -C "$index" oci-layout index.json -C "$layout" "${blobs[@]}")
  rm -rf "$index"
}

# context FOLDER: the files that the image is made of, tracked or new but not ignored.
context() {
  (cd "$ROOT" && git ls-files -z --cached --others --exclude-standard -- "${SOURCES[@]}" |
    while IFS= read -r -d '' path; do [[ -e $path ]] && printf '%s\0' "$path"; done |
    tar -c --null -T - --sort=name --mtime=@0 --owner=0 --group=0 --numeric-owner) | tar -x -C "$1"
  cp "$ROOT/images/pilotage.Dockerfile" "$1/Dockerfile"
}

source_digest() {
  (cd "$1" && find . -type f -print0 | LC_ALL=C sort -z | xargs -0 sha256sum) | sha256sum | cut -c1-12
}

buildah_() { in_packages env HOME="$HOME" buildah --root "$CACHE/buildah" --runroot /run/pilotage-buildah --storage-driver overlay "$@"; }

# bud IMAGE FOLDER REQUIREMENTS
bud() {
  # The host's certificates and pip settings: behind a proxy or a mirror, pip inside needs them as pip outside does.
  local mounts=(-v /etc/ssl/certs:/etc/ssl/certs:ro)
  [[ ! -e /etc/pip.conf ]] || mounts+=(-v /etc/pip.conf:/etc/pip.conf:ro)
  buildah_ bud --quiet --isolation chroot --layers --build-arg "BASE=$BASE_IMAGE" --build-arg "REQUIREMENTS=$3" \
    "${mounts[@]}" -t "$1" "$2" >/dev/null
}

# build_on_node IMAGE FOLDER REQUIREMENTS NAME: on the node, unless it is there.
build_on_node() {
  if ! node_pid >/dev/null || ! have "$1"; then
    base
    buildah_ inspect --type image "$BASE_IMAGE" >/dev/null 2>&1 ||
      step "base image to the builder" -- buildah_ pull --quiet "docker-archive:$IMAGES/base-$DEBIAN_SUITE.tar" >/dev/null
    step "build $1" -- bud "$1" "$2" "$3"
    if node_pid >/dev/null; then deliver "$1" "$CACHE/oci/$4"; else say "no node is up; run this again after up.sh"; fi
  fi
}

# --- with Docker ---

# from_hub IMAGE OURS: a public image under the name that manifests here use.
from_hub() { docker pull --quiet "$1" >&2 && docker tag "$1" "$2" && load "$2"; }
load() { kind_ load docker-image --name pilotage "$1" >&2; }

base_kind() { step "base image" -- from_hub "python:3.11-slim-$DEBIAN_SUITE" "$BASE_IMAGE"; }
prometheus_kind() { step "Prometheus image" -- from_hub "prom/prometheus:$PROMETHEUS_VERSION" "$PROMETHEUS_IMAGE"; }
# build_on_kind IMAGE FOLDER REQUIREMENTS: into kind, built by Docker unless it has it.
build_on_kind() {
  docker image inspect "$1" >/dev/null 2>&1 ||
    step "build $1" -- docker build --quiet --build-arg "REQUIREMENTS=$3" -t "$1" "$2" >&2
  step "load $1" -- load "$1"
}

# --- either way ---

# project WAY NAME REQUIREMENTS: the project's image, NAME:<digest of its sources>; prints its reference.
project() {
  local folder image
  folder=$(mktemp -d)
  # shellcheck disable=SC2064
  trap "rm -rf '$folder'" EXIT
  context "$folder"
  image=localhost/$2:$(source_digest "$folder")
  "build_on_$1" "$image" "$folder" "$3" "$2"
  printf '%s\n' "$image"
}

main() {
  local way suffix="" name
  way=$(choose_way)
  if [[ $way == current ]]; then
    [[ -n ${PILOTAGE_IMAGE:-} ]] || die "CLUSTER=current: build images/pilotage.Dockerfile, push it where your cluster \
pulls from, and set PILOTAGE_IMAGE to its reference"
    printf '%s\n' "$PILOTAGE_IMAGE"
    return
  fi
  one_at_a_time images
  mkdir -p "$IMAGES"
  if [[ $way == kind ]]; then suffix=_kind; else "$HERE/packages.sh"; fi
  (($#)) || set -- base prometheus pilotage
  for name; do
    case $name in
      pilotage) project "$way" pilotage image.txt ;;
      transformers) project "$way" pilotage-transformers image-transformers.txt ;;
      *) "$name$suffix" ;;
    esac
  done
}

main "$@"
