"""Starts Triton: `python -m deploy.local.triton`.

It is the vendor's installation where there is one (their image has it under /opt/tritonserver), else the server inside
the `nvidia-pytriton` wheel. Prepares a model repository (and for the wheel the Python backend) in a work folder, then
becomes `tritonserver`, so that signals and the exit status are its own. Every option may be given as an environment
variable instead. Where Triton cannot run, one line says why and the exit status is 3.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.metadata
import importlib.util
import os
import platform
import secrets
import shutil
import sys
import sysconfig
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from services.inference.engine.manifest import ManifestError, read_models
from services.inference.triton_repository import RepositoryConfig, write_repository
from services.inference.wishes import read_unwanted

ROOT = Path(__file__).resolve().parents[2]
CANNOT_RUN = 3
HOST = "127.0.0.1"
CLOSED_APIS = "inference,model-repository,shared-memory,logging,trace"  # over HTTP; gRPC serves them
QUIET = {"TOKENIZERS_PARALLELISM": "false", "HF_HUB_DISABLE_PROGRESS_BARS": "1"}
SHARED_MEMORY = Path("/dev/shm")
SYSTEM_LIBRARY_FOLDERS = ("/usr/local/lib", "/usr/lib", "/usr/lib64", "/lib")


class CannotRunError(Exception):
    """Triton cannot run on this machine; the text is one line that says why."""


@dataclass(frozen=True)
class Wheel:
    """The parts of the installed `nvidia-pytriton` wheel, and the shared libpython that its stub needs."""

    server: Path
    backends: Path
    stub: Path
    libraries: Path
    libpython: Path


@dataclass(frozen=True)
class Installation:
    """A Triton that can be started: its binary, the folder of its backends, and the environment it needs."""

    server: Path
    backends: Path
    environment: Mapping[str, str]


def find_libpython(folders: Sequence[Path] = ()) -> Path | None:
    """The running interpreter's shared library: its own if there is one, else from the system's library folders."""
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    multiarch = sysconfig.get_config_var("MULTIARCH") or "x86_64-linux-gnu"
    own = (sysconfig.get_config_var("LIBDIR") or "", f"{sys.base_prefix}/lib")
    system = (f"/usr/lib/{multiarch}", f"/lib/{multiarch}", *SYSTEM_LIBRARY_FOLDERS)
    for folder in folders or tuple(Path(name) for name in (*own, *system) if name):
        library = folder / f"libpython{version}.so.1.0"
        if library.is_file():
            return library
    return None


def find_wheel() -> Wheel:
    """Everything Triton needs; CannotRunError when a part is missing."""
    if (sys.platform, platform.machine()) != ("linux", "x86_64"):
        raise CannotRunError(f"Triton's wheel is for x86-64 Linux, this is {platform.machine()} {sys.platform}")
    spec = importlib.util.find_spec("pytriton")
    if spec is None or not spec.submodule_search_locations:
        raise CannotRunError("the package nvidia-pytriton is not installed")
    if int(importlib.metadata.version("numpy").split(".")[0]) >= 2:
        raise CannotRunError("Triton's stub needs numpy < 2: with 2 it silently reads and writes wrong tensors")
    libpython = find_libpython()
    if libpython is None:
        raise CannotRunError("this Python has no shared libpython, which Triton's stub needs (use a uv-managed Python)")
    package = Path(spec.submodule_search_locations[0])
    server = package / "tritonserver"
    stub = server / "python_backend_stubs" / f"{sys.version_info.major}.{sys.version_info.minor}"
    if not stub.is_dir():
        raise CannotRunError(f"Triton's wheel has no stub for Python {stub.name}")
    return Wheel(
        server=server / "bin" / "tritonserver",
        backends=server / "backends",
        stub=stub / "triton_python_backend_stub",
        libraries=package.parent / "nvidia_pytriton.libs",
        libpython=libpython,
    )


def shared_memory_prefix(work: Path) -> str:
    """The name that shared memory of the Triton in this work folder begins with."""
    return f"imagemesh_triton_{hashlib.sha256(str(work.resolve()).encode()).hexdigest()[:12]}_"


def remove_shared_memory(work: Path) -> None:
    """Frees what a killed Triton of this work folder left behind."""
    for leftover in SHARED_MEMORY.glob(f"{shared_memory_prefix(work)}*"):
        leftover.unlink(missing_ok=True)


def prepare_backends(wheel: Wheel, target: Path) -> None:
    """Copies the Python backend and puts the stub for this interpreter beside it."""
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(wheel.backends, target)
    shutil.copy2(wheel.stub, target / "python" / wheel.stub.name)


def find_vendor(home: Path) -> Installation | None:
    """The vendor's installation below `home`, which brings its own Python backend and stub."""
    server = home / "bin" / "tritonserver"
    return Installation(server, home / "backends", QUIET) if server.is_file() else None


def unpack_wheel(wheel: Wheel, work: Path) -> Installation:
    """The wheel's Triton, with its backends copied into the work folder."""
    prepare_backends(wheel, work / "backends")
    return Installation(wheel.server, work / "backends", server_environment(wheel, os.environ))


def server_environment(wheel: Wheel, base: Mapping[str, str]) -> dict[str, str]:
    """What the wheel needs: its libraries, and the interpreter's folder first, where the stub looks for `python3`."""
    scripts = Path(sys.executable).parent
    return {
        **QUIET,
        "LD_LIBRARY_PATH": os.pathsep.join((str(wheel.libpython.parent), str(wheel.libraries))),
        "PATH": os.pathsep.join((str(scripts), base.get("PATH", ""))),
    }


def server_command(installation: Installation, options: argparse.Namespace, models: Sequence[str]) -> list[str]:
    """The command line of `tritonserver` with each of `models` loaded at start. gRPC is always on loopback."""
    work = Path(options.work_dir)
    return [
        str(installation.server),
        f"--model-repository={work / 'repository'}",
        f"--backend-directory={installation.backends}",
        f"--backend-config=python,shm-region-prefix-name={shared_memory_prefix(work)}",
        "--model-control-mode=explicit",
        *(f"--load-model={name}" for name in models),
        "--exit-on-error=false",
        "--strict-readiness=false",
        f"--exit-timeout-secs={options.exit_timeout}",
        f"--grpc-address={HOST}",
        f"--grpc-port={options.grpc_port}",
        "--grpc-keepalive-permit-without-calls=true",
        "--grpc-http2-max-ping-strikes=0",
        f"--http-address={options.http_host}",
        f"--http-restricted-api={CLOSED_APIS}:x-imagemesh={secrets.token_hex(16)}",
        f"--http-port={options.http_port}",
        f"--metrics-address={options.http_host}",
        f"--metrics-port={options.metrics_port}",
        "--allow-gpu-metrics=true",
        "--log-info=false",
    ]


def parse(arguments: Sequence[str], environment: Mapping[str, str]) -> argparse.Namespace:
    """The options; defaults come from the environment."""
    parser = argparse.ArgumentParser(prog="python -m deploy.local.triton", description=__doc__.splitlines()[0])

    def option(flag: str, variable: str, default: str, text: str, kind: type = str) -> None:
        value = environment.get(f"IMAGEMESH_{variable}", default)
        parser.add_argument(flag, type=kind, default=value, help=f"{text} (IMAGEMESH_{variable}, default {default!r})")

    option("--models", "MODELS", str(ROOT / "models"), "folder with one folder per model")
    option("--model-wishes", "MODEL_WISHES", "", "file of the models that operators unloaded, which are not loaded")
    option("--work-dir", "TRITON_WORK", "", "folder for the backend and the model repository")
    option("--grpc-port", "TRITON_GRPC_PORT", "7404", "gRPC port on loopback", int)
    option("--http-host", "TRITON_HTTP_HOST", HOST, "address of health over HTTP and of metrics; gRPC is on loopback")
    option("--triton-home", "TRITON_HOME", "/opt/tritonserver", "the vendor's installation, used where it exists")
    option("--http-port", "TRITON_HTTP_PORT", "7405", "HTTP port on loopback", int)
    option("--metrics-port", "TRITON_METRICS_PORT", "7406", "metrics port on loopback", int)
    option("--telemetry-dir", "TELEMETRY_DIR", "", "folder for span files")
    option("--otlp-endpoint", "OTLP_ENDPOINT", "", "OTLP/gRPC collector, instead of files")
    option("--slots", "ENGINE_SLOTS", "8", "requests drawn at once", int)
    option("--waiting", "ENGINE_WAITING", "64", "requests that may wait", int)
    option("--threads", "ENGINE_THREADS", "1", "CPU threads of one operation", int)
    option("--exit-timeout", "TRITON_EXIT_TIMEOUT", "5", "seconds that running requests get at the end", int)
    parser.add_argument("--check", action="store_true", help="only tell whether Triton can run here")
    return parser.parse_args(arguments)


def prepare_repository(options: argparse.Namespace) -> list[str]:
    """Writes the model repository; returns the models to load: they have weights and nobody unloaded them."""
    config = RepositoryConfig(
        root=ROOT,
        telemetry=options.telemetry_dir,
        otlp_endpoint=options.otlp_endpoint,
        slots=options.slots,
        waiting=options.waiting,
        threads=options.threads,
    )
    models = read_models(Path(options.models).resolve())
    write_repository(Path(options.work_dir) / "repository", models.values(), config)
    unwanted = read_unwanted(Path(options.model_wishes) if options.model_wishes else None)
    return [name for name, model in models.items() if model.has_weights and name not in unwanted]


def main(arguments: Sequence[str]) -> int:
    """Becomes `tritonserver`, or returns an exit status: 0 after --check, 2 for bad options, 3 where none can run."""
    options = parse(arguments, os.environ)
    if not (options.check or options.work_dir):
        return _say("--work-dir (IMAGEMESH_TRITON_WORK) is needed", 2)
    try:
        installation = find_vendor(Path(options.triton_home)) or find_wheel()
        if options.check:
            return 0
        models = prepare_repository(options)
    except CannotRunError as error:
        return _say(str(error), CANNOT_RUN)
    except ManifestError as error:
        return _say(str(error), 2)
    work = Path(options.work_dir)
    remove_shared_memory(work)
    if isinstance(installation, Wheel):
        installation = unpack_wheel(installation, work)
    return _become(installation, server_command(installation, options, models))


def _become(installation: Installation, command: list[str]) -> int:
    """Returns only when the system cannot start the server."""
    try:
        os.execve(installation.server, command, {**os.environ, **installation.environment})
    except OSError as error:
        return _say(f"{installation.server}: {error.strerror}", CANNOT_RUN)


def _say(text: str, status: int) -> int:
    sys.stderr.write(f"{text}\n")
    return status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
