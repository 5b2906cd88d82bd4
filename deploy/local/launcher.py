"""`up`, step by step: lock the home, sweep, find tools, choose ports, start, tell, wait, stop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass, field
from typing import Literal

from deploy.local.engine import choose_engine
from deploy.local.events import Event, Report
from deploy.local.home import Home, HomeLock, kept_secret, new_secret, write_json, write_private
from deploy.local.idle import until_idle
from deploy.local.nats import NatsPlaces, ensure_nats
from deploy.local.ports import HOST, Ports, Reservations, choose_ports, moved_ports
from deploy.local.processes import (
    ROOT,
    Engine,
    Plan,
    Process,
    Secrets,
    defaults,
    overridden,
    process_table,
    shared_environment,
)
from deploy.local.space import keep_under
from deploy.local.strays import kill_strays
from deploy.local.supervisor import Supervisor, SupervisorConfig
from deploy.local.triton import remove_shared_memory

# Clients' own settings: no service of the mesh may see them.
NOT_FOR_CHILDREN = ("IMAGEMESH_API_KEY", "IMAGEMESH_TARGET")


class AlreadyUpError(Exception):
    """Another launcher holds the home."""

    def __init__(self, pid: int | None) -> None:
        super().__init__(f"a mesh is up already (launcher {pid})")


@dataclass(frozen=True)
class LauncherConfig:
    """environment: handed on to the children. engine: "", triton or inprocess. ports: the wanted ones. table: what
    runs. overrides: by the name of a process, variables that it gets instead of the table's, such as the address of a
    PostgreSQL database."""

    home: Home
    environment: Mapping[str, str]
    report: Report
    engine: str = ""
    nats_server: str = ""
    ports: Ports = field(default_factory=Ports)
    table: Callable[[Plan], tuple[Process, ...]] = process_table
    overrides: Mapping[str, Mapping[str, str]] = field(default_factory=dict)


class Launcher:
    """One mesh, from lock to release. Set `stopping` (from a signal handler) to end it."""

    def __init__(self, config: LauncherConfig) -> None:
        self._config = config
        self._lock = HomeLock(config.home)
        self._reservations = Reservations()
        self._supervisor: Supervisor | None = None
        self._lingering: asyncio.Future[None] | None = None
        self.stopping = asyncio.Event()

    async def run(self) -> None:
        """Returns after a stop that was asked for. Raises AlreadyUpError, NatsError, EngineError, StartError."""
        if not self._lock.take(patience=0.2):
            raise AlreadyUpError(self._lock.holder())
        try:
            await self._run_locked()
        finally:
            self._config.home.endpoints.unlink(missing_ok=True)
            self._reservations.release()
            self._lock.release()
        self._report("stopped", "stopped, no process is left")

    def stop(self) -> None:
        """The first call stops in order, every further one kills at once."""
        if self.stopping.is_set() and self._supervisor:
            self._supervisor.hurry()
        self.stopping.set()

    def linger(self) -> None:
        """Stops once no job is unfinished."""
        self._lingering = asyncio.ensure_future(until_idle(self._config.home))
        self._lingering.add_done_callback(lambda _: self.stopping.set())

    async def _run_locked(self) -> None:
        await asyncio.to_thread(self._sweep)
        plan = await asyncio.to_thread(self._plan)
        if self.stopping.is_set():
            return
        fresh_key = not self._config.home.development_key.exists()
        table = overridden(self._config.table(plan), self._config.overrides)
        self._supervisor = Supervisor(table, self._supervision(plan))
        try:
            await self._until_stopping(self._supervisor.start())
            if not self.stopping.is_set():
                self._tell_endpoints(plan, fresh_key)
                await self._until_stopping(self._supervisor.watch())
        finally:
            await self._supervisor.stop()
            remove_shared_memory(plan.home.triton_work)  # Triton's stubs leave theirs behind

    def _sweep(self) -> None:
        strays = kill_strays(self._config.home.root)
        if strays:
            self._report("notice", f"stopped {strays} processes that a killed launcher left behind")
        keep_under(self._config.home.telemetry)

    def _plan(self) -> Plan:
        home = self._config.home
        nats = ensure_nats(nats_places(home, self._config.nats_server))
        choice = choose_engine(self._config.engine)
        if choice.notice:
            self._report("notice", choice.notice)
        ports = choose_ports(self._config.ports, self._reservations)
        for name, port in moved_ports(ports, self._config.ports).items():
            self._report("notice", f"port {vars(self._config.ports)[name]} ({name}) is taken; using {port}")
        secrets = Secrets(new_secret(), kept_secret(home.signing_key), new_secret())
        write_private(home.mesh_token, secrets.mesh_token + "\n")
        return Plan(home, ports, secrets, nats, choice.engine)

    def _supervision(self, plan: Plan) -> SupervisorConfig:
        inherited = {k: v for k, v in self._config.environment.items() if k not in NOT_FOR_CHILDREN}
        environment = {**defaults(), **inherited, **shared_environment(plan)}
        return SupervisorConfig(self._config.home, environment, self._config.report)

    async def _until_stopping(self, work: Coroutine[None, None, None]) -> None:
        doing = asyncio.ensure_future(work)
        stopping = asyncio.ensure_future(self.stopping.wait())
        await asyncio.wait({doing, stopping}, return_when=asyncio.FIRST_COMPLETED)
        stopping.cancel()
        if doing.done():
            doing.result()
        doing.cancel()

    def _tell_endpoints(self, plan: Plan, fresh_key: bool) -> None:
        home = self._config.home
        endpoints = endpoints_of(plan.home, plan.ports, plan.engine)
        write_json(home.endpoints, endpoints)
        new_key = fresh_key and home.development_key.exists()  # the key itself stays out of every event and log
        details: dict[str, object] = {"endpoints": endpoints, "new_development_key": new_key}
        self._config.report(Event("up", "", f"up, router at {endpoints['router']}", details))

    def _report(self, kind: Literal["notice", "stopped"], text: str) -> None:
        self._config.report(Event(kind, "", text))


def nats_places(home: Home, explicit: str) -> NatsPlaces:
    """The checkout's cache first, so that several homes share one binary."""
    folders = (ROOT / ".cache" / "tools", home.tools)
    return NatsPlaces(folders if (ROOT / "pyproject.toml").exists() else folders[1:], explicit)


def endpoints_of(home: Home, ports: Ports, engine: Engine) -> dict[str, object]:
    """The document that clients on this machine read."""
    return {
        "router": f"{HOST}:{ports.router}",
        "storage": f"{HOST}:{ports.storage}",
        "storage_http": f"http://{HOST}:{ports.storage_http}",
        "moderation": f"{HOST}:{ports.moderation}",
        "inference": f"{HOST}:{ports.inference}",
        "triton": f"{HOST}:{ports.triton}" if engine == "triton" else "",
        "nats": f"nats://{HOST}:{ports.nats}",
        "engine": engine,
        "development_key_file": str(home.development_key),
        "telemetry_dir": str(home.telemetry),
        "logs_dir": str(home.logs),
    }
