from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from services.moderation.assembly import LAYERS
from services.moderation.config import DEFAULT_POLICY
from services.moderation.policies import Policy
from services.moderation.policy_files import load_policies
from tests.moderation.running import Running, running


@pytest.fixture
async def moderation(tmp_path: Path) -> AsyncIterator[Running]:
    """A running service on SQLite."""
    async with running(f"sqlite:///{tmp_path / 'moderation.db'}") as service:
        yield service


@pytest.fixture
async def moderation_on_each(database_url: str) -> AsyncIterator[Running]:
    """A running service, once on SQLite and once on PostgreSQL."""
    async with running(database_url) as service:
        yield service


@pytest.fixture(scope="session")
def policy() -> Policy:
    """The default policy."""
    return load_policies(DEFAULT_POLICY, LAYERS).for_tenant("acme")
