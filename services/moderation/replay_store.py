"""Past verdicts, a page at a time, scored under another version."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import sqlalchemy as sa

from mesh.db import Database
from services.moderation import strikes
from services.moderation.audit_tables import AUDIT_RECORDS
from services.moderation.policies import Policy
from services.moderation.policy_store import PolicyStore
from services.moderation.replay import Difference, Past, difference, kept_texts
from services.moderation.reviews import BY_PERSON, BY_TIME
from services.moderation.rows import verdict_of
from services.moderation.rule_shelf import RuleShelf
from services.moderation.tables import VERDICTS
from services.moderation.verdicts import Verdict

CHUNK = 250  # verdicts that are read and scored at once
PAGE_VERDICTS = 2_000  # verdicts scored for one page
BY_NO_POLICY = (BY_PERSON, BY_TIME, strikes.LAYER)  # what people, the clock and past strikes decided

Place = tuple[int, str]  # when a verdict was stored, and its id


@dataclass(frozen=True)
class Span:
    """Which decisions: stored from `from_us` on and before `to_us`, and after the place `after`."""

    from_us: int
    to_us: int
    after: Place = (0, "")


@dataclass(frozen=True)
class ReplayPage:
    """What a page of past decisions comes to. after: the last one scored; None when there are no more."""

    scored: int
    differences: Sequence[Difference]
    after: Place | None


class Replays:
    """Scores past verdicts under a version. Reads only."""

    def __init__(self, database: Database, policies: PolicyStore, rules: RuleShelf) -> None:
        self._database = database
        self._policies = policies
        self._rules = rules

    async def page(self, policy: Policy, span: Span, size: int) -> ReplayPage:
        """Up to `size` differences among at most PAGE_VERDICTS decisions, oldest first."""
        differences: list[Difference] = []
        scored, after = 0, span.after
        while scored < PAGE_VERDICTS:
            verdicts, kept = await self._database.read(partial(_chunk, policy=policy, span=span, after=after))
            found = await self._scored(verdicts, kept, policy)
            for verdict, differs in zip(verdicts, found, strict=True):
                scored, after = scored + 1, (verdict.create_us, verdict.verdict_id)
                differences += [differs] if differs is not None else []
                if len(differences) == size:
                    return ReplayPage(scored, differences, after)
            if len(verdicts) < CHUNK:
                return ReplayPage(scored, differences, None)
        return ReplayPage(scored, differences, after)

    async def _scored(
        self, verdicts: Sequence[Verdict], kept: Mapping[str, str], policy: Policy
    ) -> Sequence[Difference | None]:
        given = {(verdict.policy_id, verdict.policy_version) for verdict in verdicts}
        versions = {key: await self._policies.get(*key) for key in given}
        before = {key: None if version is None else version.policy for key, version in versions.items()}
        rules = await self._rules.layer(policy)

        def score() -> list[Difference | None]:
            pasts = (
                Past(
                    one,
                    before[one.policy_id, one.policy_version],
                    kept_texts(kept.get(one.verdict_id, ""), one.subject.sha256),
                )
                for one in verdicts
            )
            return [difference(past, policy, rules) for past in pasts]

        return await asyncio.to_thread(score)


def _chunk(connection: sa.Connection, policy: Policy, span: Span, after: Place) -> tuple[list[Verdict], dict[str, str]]:
    """The next verdicts, and what the audit kept of their texts, by verdict."""
    verdicts = _verdicts(connection, policy, span, after)
    ids = [verdict.verdict_id for verdict in verdicts]
    query = sa.select(AUDIT_RECORDS.c.verdict_id, AUDIT_RECORDS.c.text).where(
        AUDIT_RECORDS.c.verdict_id.in_(ids), AUDIT_RECORDS.c.action == "PROMPT_JUDGED", AUDIT_RECORDS.c.text != ""
    )
    return verdicts, {row.verdict_id: row.text for row in connection.execute(query)}


def _verdicts(connection: sa.Connection, policy: Policy, span: Span, after: Place) -> list[Verdict]:
    table = VERDICTS.c
    beyond = sa.or_(table.create_us > after[0], sa.and_(table.create_us == after[0], table.verdict_id > after[1]))
    whose = table.tenant == policy.document.tenant if policy.document.tenant else table.policy_id == policy.policy_id
    query = (
        sa.select(VERDICTS)
        .where(table.create_us >= max(span.from_us, after[0]), table.create_us < span.to_us, beyond, whose)
        .where(table.layer.not_in(BY_NO_POLICY))
        .order_by(table.create_us, table.verdict_id)
        .limit(CHUNK)
    )
    return [verdict_of(row) for row in connection.execute(query).mappings()]  # type: ignore[arg-type]  # column names
