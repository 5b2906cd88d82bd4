#!/usr/bin/env bash
# Writes requirements/*.txt from pyproject.toml: exact versions, for Python 3.11 and 3.12, without download addresses.
# torch's own CUDA libraries are left out: torch pins them itself, and its CPU build must not bring them along.
set -euo pipefail
cd "$(dirname "$0")/.."
compile() {
  local out=$1; shift
  uv pip compile --quiet pyproject.toml "$@" --universal --python-version 3.11 --no-emit-index-url --no-header \
    --no-annotate -o /dev/stdout | grep -vE '^(nvidia-c|nvidia-n|cuda-|triton==)' > "$out.tmp"
  mv "$out.tmp" "$out"
}
compile requirements/all.txt --all-extras
compile requirements/client.txt
for extra in router storage moderation moderation-aws moderation-ocr inference encoder; do compile "requirements/$extra.txt" --extra "$extra"; done
