#!/usr/bin/env bash
# The contract with the real vLLM: installs it where it is not (hack/vllm/setup.sh), serves what we export, compares.
set -euo pipefail
cd "$(dirname "$0")/../.."
hack/step.sh "vLLM in .venv/vllm (locked requirements)" hack/vllm/setup.sh
hack/step.sh "contract tests, vLLM" .venv/bin/python -m pytest -q tests/contract -m vllm
