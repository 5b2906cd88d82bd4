"""Real servers that the tests stand on: nats-server and PostgreSQL, on free ports, in temporary folders."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import uuid
from collections.abc import AsyncIterator, Generator, Iterator
from pathlib import Path

import pytest

from tests.schemas import memory_folder

ROOT = Path(__file__).resolve().parent.parent
IN_CI = os.environ.get("CI") == "true"


def missing(what: str) -> None:
    """Skips where a real server cannot be had; in CI that is a failure."""
    if IN_CI:
        pytest.fail(f"{what} is needed in CI")
    pytest.skip(f"{what} is not installed")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """In CI every server must be there, so a skipped test is a failed one."""
    report = yield
    if IN_CI and report.skipped and not hasattr(report, "wasxfail"):
        report.outcome = "failed"
    return report


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def postgres_binaries() -> Path | None:
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    if found:
        return found[-1].parent
    on_path = shutil.which("initdb")
    return Path(on_path).resolve().parent if on_path else None


class PostgresServer:
    """A throw-away PostgreSQL cluster; root hands it to the user `postgres`, which initdb insists on."""

    def __init__(self, binaries: Path, folder: Path) -> None:
        self._as_user = (
            ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"] if os.geteuid() == 0 else []
        )
        self.port = free_port()
        if self._as_user:
            shutil.chown(folder, "postgres", "postgres")
        data = folder / "data"
        self._run(
            str(binaries / "initdb"), "-D", str(data), "-U", "imagemesh", "--auth=trust", "-E", "UTF8", "--no-sync"
        )
        options = f"-p {self.port} -k {folder} -c listen_addresses=127.0.0.1 -c fsync=off -c max_connections=200"
        command = [*self._as_user, str(binaries / "postgres"), "-D", str(data), *options.split()]
        self._process = subprocess.Popen(command, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        self._wait(binaries)

    def url(self, database: str) -> str:
        return f"postgresql+asyncpg://imagemesh@127.0.0.1:{self.port}/{database}"

    def stop(self) -> None:
        self._process.send_signal(signal.SIGINT)  # ends its clients; SIGTERM would wait for them
        self._process.wait(timeout=20)

    def _run(self, *command: str) -> None:
        subprocess.run([*self._as_user, *command], check=True, capture_output=True, cwd="/")

    def _wait(self, binaries: Path) -> None:
        ready = [str(binaries / "pg_isready"), "-h", "127.0.0.1", "-p", str(self.port), "-U", "imagemesh", "-t", "5"]
        end = time.monotonic() + 60
        while subprocess.run(ready, capture_output=True, check=False).returncode != 0:
            if self._process.poll() is not None or time.monotonic() > end:
                raise RuntimeError("postgres did not start")


@pytest.fixture(scope="session")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PostgresServer]:
    binaries = postgres_binaries()
    if binaries is None:
        missing("PostgreSQL")
        return
    # Not under pytest's own folder: that is closed to the user `postgres`, and too long for a socket's path.
    folder = Path(tempfile.mkdtemp(prefix="imagemesh-pg-", dir=memory_folder()))
    server = PostgresServer(binaries, folder)
    yield server
    server.stop()
    shutil.rmtree(folder, ignore_errors=True)


async def create_database(server: PostgresServer) -> str:
    import asyncpg

    name = f"t{uuid.uuid4().hex}"
    connection = await asyncpg.connect(host="127.0.0.1", port=server.port, user="imagemesh", database="postgres")
    await connection.execute(f"CREATE DATABASE {name}")
    await connection.close()
    return server.url(name)


async def drop_database(server: PostgresServer, url: str) -> None:
    """Frees the room of a test's database, whoever is still connected to it."""
    import asyncpg

    connection = await asyncpg.connect(host="127.0.0.1", port=server.port, user="imagemesh", database="postgres")
    await connection.execute(f"DROP DATABASE {url.rpartition('/')[2]} WITH (FORCE)")
    await connection.close()


@pytest.fixture
async def postgres_url(postgres: PostgresServer) -> AsyncIterator[str]:
    """The URL of a fresh, empty PostgreSQL database."""
    url = await create_database(postgres)
    yield url
    await drop_database(postgres, url)


@pytest.fixture(params=["sqlite", "postgresql"])
async def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[str]:
    """A fresh, empty database, once on SQLite and once on PostgreSQL."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path / 'truth.db'}"
        return
    server = request.getfixturevalue("postgres")
    url = await create_database(server)
    yield url
    await drop_database(server, url)


def nats_binary() -> str | None:
    named = os.environ.get("NATS_SERVER")
    for candidate in (named, str(ROOT / ".cache" / "tools" / "nats-server"), shutil.which("nats-server")):
        if candidate and Path(candidate).exists():
            return candidate
    return None


class NatsServer:
    """A nats-server with JetStream that can be killed and started again on the same port and folder."""

    def __init__(self, binary: str, folder: Path) -> None:
        self._binary = binary
        self.folder = folder
        self.port = free_port()
        self.process: asyncio.subprocess.Process | None = None

    @property
    def url(self) -> str:
        return f"nats://127.0.0.1:{self.port}"

    async def start(self) -> None:
        self.process = await asyncio.create_subprocess_exec(
            self._binary, "-a", "127.0.0.1", "-p", str(self.port), "-js", "-sd", str(self.folder),
            stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL,
        )  # fmt: skip
        async with asyncio.timeout(20):
            while not await self._answers():
                await asyncio.sleep(0.02)

    async def kill(self) -> None:
        if self.process is not None and self.process.returncode is None:
            self.process.kill()
            await self.process.wait()

    async def _answers(self) -> bool:
        try:
            _reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        except OSError:
            return False
        writer.close()
        await writer.wait_closed()
        return True


@pytest.fixture
async def nats_server(tmp_path: Path) -> AsyncIterator[NatsServer]:
    """A fresh nats-server of this test alone."""
    binary = nats_binary()
    if binary is None:
        missing("nats-server")
        return
    server = NatsServer(binary, tmp_path / "jetstream")
    await server.start()
    yield server
    await server.kill()
