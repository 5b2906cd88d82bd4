"""The process table of a local mesh, as data: what runs, with which settings, and how it shows that it is ready.

deploy/k8s has one container for each row. The order is the order of starting; `after` names the rows whose readiness a
process truly needs. Stopping goes backwards.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from deploy.local.checks import Check, GrpcReady, NatsReady
from deploy.local.home import Home
from deploy.local.ports import HOST, Ports

ROOT = Path(__file__).resolve().parents[2]
Engine = Literal["triton", "inprocess"]


@dataclass(frozen=True)
class Process:
    """One row.

    environment: added to what every process gets. after: names of rows that must be ready first.
    startup_seconds: how long until ready. stop_seconds: from SIGTERM until SIGKILL.
    """

    name: str
    command: tuple[str, ...]
    check: Check
    environment: Mapping[str, str] = field(default_factory=dict)
    after: tuple[str, ...] = ()
    startup_seconds: float = 120.0
    stop_seconds: float = 12.0


@dataclass(frozen=True)
class Secrets:
    """What the services share; neither appears in any log."""

    mesh_token: str = field(repr=False)
    signing_key: str = field(repr=False)
    verdict_key: str = field(default="", repr=False)


@dataclass(frozen=True)
class Plan:
    """What the table is made from."""

    home: Home
    ports: Ports
    secrets: Secrets
    nats_server: Path
    engine: Engine


def process_table(plan: Plan) -> tuple[Process, ...]:
    """Every process of the mesh in the order of starting."""
    triton = (_triton(plan),) if plan.engine == "triton" else ()
    return (
        _nats(plan),
        *triton,
        _storage(plan),
        _moderation(plan),
        _router(plan, "api", plan.ports.router),
        _inference(plan),
        _router(plan, "worker", plan.ports.worker),
    )


def overridden(table: tuple[Process, ...], overrides: Mapping[str, Mapping[str, str]]) -> tuple[Process, ...]:
    """The table with the named processes' variables replaced. Raises ValueError for a name that is not in it."""
    unknown = overrides.keys() - {process.name for process in table}
    if unknown:
        raise ValueError(f"there is no process {', '.join(sorted(unknown))}")
    return tuple(
        replace(process, environment={**process.environment, **overrides.get(process.name, {})}) for process in table
    )


def shared_environment(plan: Plan) -> dict[str, str]:
    """What every process of ours reads (mesh/config.py)."""
    return {
        "IMAGEMESH_HOST": HOST,
        "IMAGEMESH_NATS_URL": f"nats://{HOST}:{plan.ports.nats}",
        "IMAGEMESH_MESH_TOKEN": plan.secrets.mesh_token,
        "IMAGEMESH_ROUTER_TARGET": _at(plan.ports.router),
        "IMAGEMESH_STORAGE_TARGET": _at(plan.ports.storage),
        "IMAGEMESH_MODERATION_TARGET": _at(plan.ports.moderation),
        "IMAGEMESH_INFERENCE_TARGET": _at(plan.ports.inference),
        "IMAGEMESH_TELEMETRY_DIR": str(plan.home.telemetry),
        "IMAGEMESH_DRAIN_SECONDS": "8",
    }


def defaults() -> dict[str, str]:
    """Settings that the user's own environment may replace."""
    return {"IMAGEMESH_MODELS": str(ROOT / "models")}


def _nats(plan: Plan) -> Process:
    store = str(plan.home.data / "nats")
    command = (str(plan.nats_server), "-a", HOST, "-p", str(plan.ports.nats), "-js", "-sd", store)
    return Process("nats-server", command, NatsReady(plan.ports.nats), startup_seconds=30)


def _triton(plan: Plan) -> Process:
    return Process(
        "triton",
        _python("deploy.local.triton"),
        GrpcReady(plan.ports.triton, service=""),
        {
            "IMAGEMESH_TRITON_GRPC_PORT": str(plan.ports.triton),
            "IMAGEMESH_TRITON_HTTP_PORT": str(plan.ports.triton_http),
            "IMAGEMESH_TRITON_METRICS_PORT": str(plan.ports.triton_metrics),
            "IMAGEMESH_TRITON_WORK": str(plan.home.triton_work),
            "IMAGEMESH_MODEL_WISHES": _model_wishes(plan),
            # The inference service has drained before Triton is stopped: there is nothing left to wait for.
            "IMAGEMESH_TRITON_EXIT_TIMEOUT": "1",
        },
        startup_seconds=300,
    )


def _storage(plan: Plan) -> Process:
    own = {
        "IMAGEMESH_OBJECTS": (plan.home.data / "objects").as_uri(),
        "IMAGEMESH_HTTP_PORT": str(plan.ports.storage_http),
        "IMAGEMESH_PUBLIC_URL": f"http://{_at(plan.ports.storage_http)}",
        "IMAGEMESH_SIGNING_KEYS": f"local:{plan.secrets.signing_key}",
        "IMAGEMESH_VERDICT_KEY": plan.secrets.verdict_key,
    }
    return _service(plan, ("storage",), plan.ports.storage, own)


def _moderation(plan: Plan) -> Process:
    own = {
        "IMAGEMESH_AUDIT_CHECKPOINTS": (plan.home.data / "audit-checkpoints").as_uri(),
        "IMAGEMESH_VERDICT_KEY": plan.secrets.verdict_key,
    }
    return _service(plan, ("moderation",), plan.ports.moderation, own)


def _inference(plan: Plan) -> Process:
    own = {
        "IMAGEMESH_INFERENCE_ENGINE": plan.engine,
        "IMAGEMESH_MODEL_WISHES": _model_wishes(plan),
        "IMAGEMESH_TRITON_TARGET": _at(plan.ports.triton),
    }
    after = ("triton",) if plan.engine == "triton" else ()
    return _service(plan, ("inference",), plan.ports.inference, own, after)


def _model_wishes(plan: Plan) -> str:
    """Written by the inference service, read by both, so that neither loads what an operator unloaded."""
    return str(plan.home.data / "inference" / "unloaded.json")


def _router(plan: Plan, role: str, port: int) -> Process:
    api = {
        "IMAGEMESH_BOOTSTRAP_KEY_FILE": str(plan.home.development_key),
        "IMAGEMESH_HOOKS_PORT": str(plan.ports.router_http),
    }
    own = api if role == "api" else {}
    after = ("router-api",) if role == "worker" else ()
    return _service(plan, ("router", role), port, own, after)


def _service(
    plan: Plan, module: tuple[str, ...], port: int, own: Mapping[str, str], after: tuple[str, ...] = ()
) -> Process:
    """`python -m services.<name> [role]` with a SQLite file per service and health on its gRPC port."""
    environment = {
        "IMAGEMESH_GRPC_PORT": str(port),
        "IMAGEMESH_DATABASE_URL": plan.home.database_url(module[0]),
        **own,
    }
    command = _python(f"services.{module[0]}", *module[1:])
    return Process("-".join(module), command, GrpcReady(port), environment, after)


def _python(module: str, *arguments: str) -> tuple[str, ...]:
    return (sys.executable, "-m", module, *arguments)


def _at(port: int) -> str:
    return f"{HOST}:{port}"
