"""The tables of stored policies: versions, the one row that counts their changes, shadow verdicts, exemptions."""

from __future__ import annotations

import sqlalchemy as sa

from services.moderation.tables import METADATA

# A version's document never changes; its state does, and `revision` counts each change of it.
POLICIES = sa.Table(
    "policies",
    METADATA,
    sa.Column("policy_id", sa.String(64), primary_key=True),
    sa.Column("version", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("tenant", sa.String(64), nullable=False),
    sa.Column("state", sa.String(16), nullable=False),
    sa.Column("revision", sa.BigInteger, nullable=False),
    sa.Column("digest", sa.String(64), nullable=False),
    sa.Column("document", sa.JSON, nullable=False),
    sa.Column("create_us", sa.BigInteger, nullable=False),
    sa.Index("policies_by_state", "state", "tenant"),
)

# One row. Each change of `policies` counts it up in the same transaction, so that a verdict can be stored only under
# the policies that are live at its commit.
POLICIES_VERSION = sa.Table(
    "policies_version",
    METADATA,
    sa.Column("id", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("version", sa.BigInteger, nullable=False),
)

# What a shadow version would have decided, beside the verdict that stands.
SHADOW_VERDICTS = sa.Table(
    "shadow_verdicts",
    METADATA,
    sa.Column("verdict_id", sa.String(64), primary_key=True),
    sa.Column("policy_id", sa.String(64), primary_key=True),
    sa.Column("policy_version", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("tenant", sa.String(64), nullable=False),
    sa.Column("before", sa.String(16), nullable=False),
    sa.Column("decision", sa.String(16), nullable=False),
    sa.Column("scores", sa.JSON, nullable=False),
    sa.Column("create_us", sa.BigInteger, nullable=False),
    sa.Index("shadow_verdicts_by_policy", "policy_id", "policy_version", "create_us"),
)

# Prompts that a won appeal lets through under one version of a policy; the floor stands over each of them.
PROMPT_EXEMPTIONS = sa.Table(
    "prompt_exemptions",
    METADATA,
    sa.Column("tenant", sa.String(64), primary_key=True),
    sa.Column("sha256", sa.String(64), primary_key=True),
    sa.Column("policy_id", sa.String(64), primary_key=True),
    sa.Column("policy_version", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("create_us", sa.BigInteger, nullable=False),
)
