# Everything a person does with this checkout. `make help` lists it.
SHELL := /usr/bin/env bash
.DEFAULT_GOAL := help
PY := .venv/bin/python
STEP := hack/step.sh
LOCK := .venv/bin/uv pip compile -q --no-header --no-emit-index-url --python-version 3.11 --override requirements/overrides.txt pyproject.toml
DATA ?= $(if $(STAR)$(filter transformers,$(BACKEND)),star,desk)
export OMP_NUM_THREADS ?= 1
export OMP_WAIT_POLICY ?= PASSIVE

.PHONY: help check setup setup-transformers demo demo-local demo-faults console test test-long verify format generate bench bench-star bench-desk bench-operator bench-ablations bench-mfu cluster-up cluster-down clean lock

help: ## what there is
	@awk -F':.*## ' '/^[a-z-]+:.*## / {printf "  make %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

check: ## what this machine lacks
	@hack/check.sh --cluster

setup: ## .venv with locked requirements
	@$(STEP) "set up .venv (locked requirements)" hack/setup.sh

setup-transformers: ## the same with torch, transformers and what goes with them (5 GB)
	@$(STEP) "set up .venv (locked requirements, transformers)" hack/setup.sh --transformers

demo: check setup ## the main job on a real Kubernetes, ends in out/demo/report.html (DATA=star: replayed; BACKEND=transformers: that with those)
	@DATA=$(DATA) hack/demo/kubernetes.sh $(if $(SGD),--sgd "$(SGD)") $(if $(STAR),--star "$(STAR)")

demo-local: $(if $(filter transformers,$(BACKEND)),setup-transformers,setup) ## the same as plain local processes, nothing but Python (DATA=star, BACKEND=transformers: as above)
	@$(STEP) "demo, local" .venv/bin/pilotage demo --local --data $(DATA) $(if $(SGD),--sgd "$(SGD)") $(if $(STAR),--star "$(STAR)") $(if $(filter transformers,$(BACKEND)),--manifests examples/star-transformers --plan transformers --limit-seconds 1200)

console: setup ## answer a model's cards yourself, on a life cycle of local processes: watch it climb and be taken back
	@.venv/bin/pilotage demo --local --console

demo-faults: check setup ## SIGKILL controller, gateway, Prometheus and model servers during the life cycle
	@$(STEP) "faults, local" .venv/bin/pilotage demo --local --faults
	@DATA=star hack/demo/kubernetes.sh --faults

test: ## everything, e2e on a real Kubernetes where one can be had
	@hack/test.sh

verify: setup-transformers ## format, lint, types, layers, generated files, docs links, shell scripts, unit tests
	@$(STEP) "format" .venv/bin/ruff format --check .
	@$(STEP) "lint" .venv/bin/ruff check .
	@$(STEP) "types" .venv/bin/mypy
	@$(STEP) "layers" .venv/bin/lint-imports --no-cache
	@$(STEP) "generated files" $(PY) -m pilotage_operator.api.generate --check
	@$(STEP) "docs links" $(PY) hack/check_links.py
	@$(STEP) "shell scripts" hack/shellcheck.sh
	@$(STEP) "unit tests" hack/unit_tests.sh

test-long: setup ## the search over the whole way for an hour's worth of steps, faults three times as local processes, the desk on Kubernetes
	@$(STEP) "search over the whole way" env SEARCH_EXAMPLES=4000 SEARCH_STEPS=100 $(PY) -m pytest -q -s tests/unit/gateway/test_whole_way.py
	@$(STEP) "faults, local, three times" bash -c 'for i in 1 2 3; do .venv/bin/pilotage demo --local --faults || exit 1; done'
	@DATA=desk hack/demo/kubernetes.sh

format: setup ## format and mend what can be mended
	@.venv/bin/ruff format . && .venv/bin/ruff check --fix .

generate: setup ## crds/ from operator/pilotage_operator/api
	@$(PY) -m pilotage_operator.api.generate

bench: setup-transformers ## figures into bench/results
	@for b in $(filter-out bench/provenance.py bench/ablations.py bench/desk.py bench/controller.py bench/controller_fleet.py,$(wildcard bench/*.py)); do $(STEP) "$$b" $(PY) $$b || exit 1; done

bench-star: setup-transformers ## STAR's published benchmark: ten minutes of training on two cores, beside the count models
	@$(STEP) "bench/star.py" $(PY) bench/star.py $(if $(STAR),--star "$(STAR)") $(if $(WHOLE),--whole)

bench-operator: check setup ## what the controller costs for 100, 1,000 and 10,000 process clusters on a real API server: half an hour (CLUSTERS="300": only those)
	@hack/cluster/up.sh
	@eval "$$(hack/cluster/up.sh --print-env)" && $(STEP) "bench/controller.py" $(PY) bench/controller.py $(if $(CLUSTERS),--clusters $(CLUSTERS))

bench-desk: setup ## sessions that run by themselves at the desk: half an hour on two quiet cores
	@$(STEP) "bench/desk.py" $(PY) bench/desk.py $(if $(SGD),--sgd "$(SGD)")

bench-ablations: setup-transformers ## the trainer's ablations: seven studies of 10 to 60 minutes on two cores, two of them on a demo's records
	@$(STEP) "bench/ablations.py" $(PY) bench/ablations.py $(if $(STAR),--star "$(STAR)")

bench-mfu: setup-transformers ## MFU of the 7B shape on one GPU; says "not measured" where there is none
	@$(STEP) "bench/mfu.py" $(PY) bench/mfu.py

cluster-up: ## a real Kubernetes: kind where Docker answers, else a control plane and node of its own
	@hack/cluster/up.sh

cluster-down: ## take it away again
	@hack/cluster/down.sh

lock: setup ## requirements/*.txt from pyproject.toml, vllm.txt from vllm.in; torch.txt is written by hand
	@$(PY) -m pip install --quiet uv
	@$(LOCK) --extra operator --extra gateway --extra trainer --extra dev -o requirements/dev.txt
	@$(LOCK) --extra operator --extra gateway --extra trainer -c requirements/dev.txt -o requirements/image.txt
	@$(LOCK) --extra operator --extra gateway --extra trainer --extra dev --extra transformers -c requirements/dev.txt -c requirements/torch.txt -o requirements/transformers.txt
	@$(LOCK) --extra operator --extra gateway --extra trainer --extra transformers -c requirements/transformers.txt -o requirements/image-transformers.txt
	@.venv/bin/uv pip compile -q --no-header --no-emit-index-url --python-version 3.11 requirements/vllm.in --override requirements/vllm-overrides.txt -o requirements/vllm.txt

clean: ## leave nothing of ours: cluster, what was built, .venv, outputs (Go's, pip's and Docker's caches stay)
	@hack/cluster/down.sh --purge
	@rm -rf .venv out build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +
