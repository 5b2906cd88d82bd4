# Every target sets up what it needs; nothing needs root, a GPU or a key.
.DEFAULT_GOAL := help
SHELL := bash
PYTHON := .venv/bin/python
BUF := .cache/npm/node_modules/.bin/buf
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help setup demo up test lint protos bench bench-router bench-gpu chaos pins train-demo train-moderation eval-moderation format

help: ## Lists the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "%-17s %s\n", $$1, $$2}'

setup: .venv/.ready ## Makes .venv and fetches nats-server
.venv/.ready: requirements/all.txt tools/setup.sh
	@tools/setup.sh

demo: setup ## One picture from a prompt on a mesh of its own, with cost and trace; then stops everything
	@$(PYTHON) -m tools.demo

up: setup ## The whole mesh on this machine until Ctrl-C
	@.venv/bin/imagemesh up

test: setup .cache/tools/versitygw ## The whole suite, on real servers
	@$(PYTHON) -m pytest -n 2 --dist worksteal tests

lint: setup $(BUF) .cache/tools/kustomize ## Style, types, layers, sizes, contracts, manifests
	@tools/lint.sh

format: setup ## Formats the code
	@.venv/bin/ruff check --fix --quiet . ; .venv/bin/ruff format --quiet .

protos: setup ## Python stubs from protos/
	@$(PYTHON) tools/protos.py

bench: setup ## Benchmark tables
	@$(PYTHON) -m benchmarks.mesh

bench-router: setup ## Beside the LiteLLM proxy, on the same stub provider; ten minutes, ARGS=--quick for two
	@$(PYTHON) -m benchmarks.router $(ARGS)

bench-gpu: setup ## Seconds per picture of SDXL and FLUX.1-dev on a GPU; minutes, most of them compiling
	@$(PYTHON) -m benchmarks.gpu $(ARGS)

chaos: setup ## The whole crash matrix; at most 30 minutes
	@$(PYTHON) -m tests.chaos

pins: ## Exact versions into requirements/ from pyproject.toml
	@tools/pins.sh

train-demo: setup ## Draws the training pictures and trains models/demo again; hours on two cores
	@$(PYTHON) -m tools.train_demo all

train-moderation: setup ## Fits the text classifier's heads again, with their model card; a minute or two
	@$(PYTHON) -m tools.train_moderation train

eval-moderation: setup ## How well texts are judged, into docs/moderation-report.md; takes minutes
	@$(PYTHON) -m tools.train_moderation evaluate

$(BUF):
	@npm install --silent --no-save --prefix .cache/npm @bufbuild/buf@1.75.0

.cache/tools/versitygw: | tools/install_versitygw.sh
	@tools/install_versitygw.sh || echo "no S3 server for the tests: install Go to get versitygw" >&2

.cache/tools/kustomize:
	@GOBIN=$(CURDIR)/.cache/tools go install sigs.k8s.io/kustomize/kustomize/v5@v5.8.1 || \
		echo "no kustomize: install Go to render the manifests" >&2
