"""Generates the typed Python stubs from `protos/` into `clients/python/imagemesh/`.

Google's own protos come from the installed `googleapis-common-protos` wheel and protobuf's well-known types from
`grpcio-tools`; they are copied to `protos/third_party/` (ignored by git), where buf finds them too.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PROTOS = ROOT / "protos"
THIRD_PARTY = PROTOS / "third_party"
OUT = ROOT / "clients" / "python"
GOOGLE_FOLDERS = ("rpc", "type")


def copy_google_protos() -> None:
    """Copies `google/rpc` and `google/type` out of the installed wheel."""
    import google.rpc as google_rpc

    google = Path(next(iter(google_rpc.__path__))).parent
    shutil.rmtree(THIRD_PARTY, ignore_errors=True)
    for folder in GOOGLE_FOLDERS:
        target = THIRD_PARTY / "google" / folder
        target.mkdir(parents=True)
        for proto in (google / folder).glob("*.proto"):
            shutil.copy(proto, target / proto.name)


def generate(out: Path) -> None:
    """Runs protoc over every proto of ours; the stubs land under `out`."""
    import grpc_tools

    bundled = Path(grpc_tools.__file__).parent / "_proto"
    scripts = Path(sys.executable).parent
    sources = sorted(str(p.relative_to(PROTOS)) for p in (PROTOS / "imagemesh").rglob("*.proto"))
    command = [
        sys.executable,
        "-m",
        "grpc_tools.protoc",
        f"-I{PROTOS}",
        f"-I{THIRD_PARTY}",
        f"-I{bundled}",
        f"--plugin=protoc-gen-mypy={scripts / 'protoc-gen-mypy'}",
        f"--plugin=protoc-gen-mypy_grpc={scripts / 'protoc-gen-mypy_grpc'}",
        f"--python_out={out}",
        f"--grpc_python_out={out}",
        f"--mypy_out=quiet:{out}",
        f"--mypy_grpc_out=quiet:{out}",
        *sources,
    ]
    subprocess.run(command, check=True, cwd=PROTOS)
    for folder in {(out / s).parent for s in sources}:
        for package in (folder, folder.parent):
            (package / "__init__.py").write_text('"""Stubs generated from protos/."""\n', encoding="utf-8")


def main() -> None:
    """Entry point of `make protos`."""
    copy_google_protos()
    OUT.mkdir(parents=True, exist_ok=True)
    generate(OUT)


if __name__ == "__main__":
    main()
