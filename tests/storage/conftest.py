from __future__ import annotations

import uuid
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from services.storage.objects.base import ObjectStore
from services.storage.objects.disk import DiskStore
from services.storage.objects.recent import Recent
from services.storage.objects.s3 import S3Store
from tests.conftest import missing
from tests.storage.running import Running, running
from tests.storage.s3_server import S3Server, versitygw_binary


@pytest.fixture(scope="session")
def s3_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    binary = versitygw_binary()
    if binary is None:
        missing("versitygw (tools/install_versitygw.sh)")
        return
    server = S3Server(binary, tmp_path_factory.mktemp("s3"))
    yield server
    server.stop()


@pytest.fixture(params=["disk", "s3", "recent"])
async def objects(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[ObjectStore]:
    """An empty object store of every kind."""
    store: ObjectStore
    if request.param == "disk":
        store = DiskStore(tmp_path / "objects")
    elif request.param == "recent":
        store = Recent(DiskStore(tmp_path / "objects"), 1 << 30)
    else:
        store = S3Store(request.getfixturevalue("s3_server").config(f"b-{uuid.uuid4().hex}"))
    await store.ping()
    yield store
    await store.close()


@pytest.fixture
async def storage(database_url: str, tmp_path: Path) -> AsyncIterator[Running]:
    """The service over each kind of database, with objects on disk."""
    async with running(database_url, DiskStore(tmp_path / "objects")) as service:
        yield service


@pytest.fixture
async def local(tmp_path: Path) -> AsyncIterator[Running]:
    """The service with the embedded defaults: SQLite and disk."""
    async with running(f"sqlite:///{tmp_path / 'truth.db'}", DiskStore(tmp_path / "objects")) as service:
        yield service
