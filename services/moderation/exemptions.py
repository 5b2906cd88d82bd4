"""Prompts that a person let through: one hash, for one tenant, under one version of a policy."""

from __future__ import annotations

import sqlalchemy as sa

from mesh.db import insert_or_ignore, now_us
from services.moderation.policy_tables import PROMPT_EXEMPTIONS as EXEMPTIONS

_FIND = sa.select(EXEMPTIONS.c.sha256).where(
    *(EXEMPTIONS.c[name] == sa.bindparam(name) for name in ("tenant", "sha256", "policy_id", "policy_version"))
)


def exempt(connection: sa.Connection, tenant: str, sha256: str, policy_id: str, version: int) -> None:
    """Lets the prompt through in the running transaction, from its commit on; a repeat changes nothing.

    sha256: the verdict's. It never reaches below a floor: what a layer sees of SEXUAL_MINORS decides as if nobody had
    appealed.
    """
    row = _key(tenant, sha256, policy_id, version)
    insert_or_ignore(connection, EXEMPTIONS, {**row, "create_us": connection.execute(sa.select(now_us())).scalar_one()})


def exempted(connection: sa.Connection, tenant: str, sha256: str, policy_id: str, version: int) -> bool:
    """Whether a person let exactly this prompt through under exactly this version."""
    return connection.execute(_FIND, _key(tenant, sha256, policy_id, version)).first() is not None


def _key(tenant: str, sha256: str, policy_id: str, version: int) -> dict[str, str | int]:
    return {"tenant": tenant, "sha256": sha256, "policy_id": policy_id, "policy_version": version}
