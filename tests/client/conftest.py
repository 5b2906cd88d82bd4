"""One fake mesh for each test, and the command run against it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from imagemesh.calls import Connection, Retries
from imagemesh.cli.main import cli
from imagemesh.client import Client

from tests.client.fake_mesh import KEY, FakeMesh, serve

Command = Callable[..., Result]


@pytest.fixture
def mesh() -> Iterator[FakeMesh]:
    """A fake mesh on a free port."""
    mesh = FakeMesh()
    stop = serve(mesh)
    yield mesh
    stop()


@pytest.fixture
def quick() -> Connection:
    """Repeats at once."""
    return Connection(timeout=5.0, retries=Retries(attempts=4, first=0.001, most=0.002))


@pytest.fixture
def client(mesh: FakeMesh, quick: Connection) -> Iterator[Client]:
    """A client of the fake mesh."""
    with Client(mesh.target, KEY, quick) as client:
        yield client


@pytest.fixture
def command(mesh: FakeMesh, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Command:
    """Runs `imagemesh ARGUMENTS` against the fake mesh, in an empty folder."""
    monkeypatch.chdir(tmp_path)
    environment = {"IMAGEMESH_TARGET": mesh.target, "IMAGEMESH_API_KEY": KEY, "IMAGEMESH_HOME": str(tmp_path / "home")}

    def run(*arguments: str, **more: str) -> Result:
        return CliRunner().invoke(cli, list(arguments), env={**environment, **more}, prog_name="imagemesh")

    return run
