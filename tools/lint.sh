#!/usr/bin/env bash
# The whole of `make lint`; stops at the first failure.
set -euo pipefail
cd "$(dirname "$0")/.."
bin=.venv/bin
step() { printf '\033[1m%s\033[0m\n' "$*"; }

step "ruff";            "$bin/ruff" check --quiet . && "$bin/ruff" format --check --quiet .
step "mypy";            "$bin/mypy" --no-error-summary mesh services clients/python/imagemesh deploy tools benchmarks
step "layers";          PYTHONPATH=.:clients/python "$bin/lint-imports" --no-logo
step "sizes";           "$bin/python" -m tools.check_sizes
step "protos";          "$bin/python" tools/protos.py
git diff --exit-code --stat -- clients/python/imagemesh ||
  { echo "the generated stubs are not those of protos/: run 'make protos' and commit" >&2; exit 1; }
(cd protos && ../.cache/npm/node_modules/.bin/buf lint)
tag=$(git describe --tags --abbrev=0 2>/dev/null || true)
if [ -n "$tag" ]; then (cd protos && ../.cache/npm/node_modules/.bin/buf breaking --against "../.git#tag=$tag,subdir=protos"); fi
step "manifests";       "$bin/python" -m tools.check_manifests
