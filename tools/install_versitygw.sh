#!/bin/sh
# Puts versitygw, the S3 server that the storage tests run against, into .cache/tools/. It is a Go module; a Go that is
# older than the module asks for fetches the newer toolchain by itself (GOTOOLCHAIN=auto).
set -eu
version=v1.8.0
root=$(cd "$(dirname "$0")/.." && pwd)
target="$root/.cache/tools/versitygw"
if [ -x "$target" ]; then
    exit 0
fi
if ! command -v go >/dev/null; then
    echo "versitygw needs Go to be built; without it the S3 tests are skipped" >&2
    exit 1
fi
mkdir -p "$root/.cache/tools"
GOBIN="$root/.cache/tools" GOTOOLCHAIN=auto go install "github.com/versity/versitygw/cmd/versitygw@$version"
