"""One judgement from request to stored verdict; the flow that both rpcs share."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from mesh.errors import NotFound, Unavailable
from mesh.ids import derived_id, new_id
from services.moderation import coverage
from services.moderation.decoding import Inspection
from services.moderation.image_pipeline import ImagePipeline
from services.moderation.layers import Outcome
from services.moderation.peers.assets import Assets
from services.moderation.perceptual import EMPTY_TABLE, HashTable
from services.moderation.policies import Policy
from services.moderation.policy_shelf import PolicyShelf
from services.moderation.rows import AuditNote
from services.moderation.shadow import Shadows, of_image
from services.moderation.store import Announce, Basis, Given, Store
from services.moderation.strikes import struck
from services.moderation.text_pipeline import TextPipeline
from services.moderation.text_retention import kept
from services.moderation.turns import Turns
from services.moderation.verdicts import (
    Decision,
    Image,
    Safety,
    Subject,
    SubjectKind,
    Text,
    Verdict,
    above_floor,
    judge,
    texts_digest,
)

RACES = 5  # times something is judged anew because policies were changed or pictures blocked meanwhile


@dataclass(frozen=True)
class Asker:
    """On whose behalf something is judged. actor: the key's id. trace_id: of the running call."""

    tenant: str
    actor: str
    trace_id: str
    job_id: str = ""
    user: str = ""
    safety: Safety = field(default_factory=Safety)


class Judge:
    """Gives verdicts and stores them before it returns them."""

    def __init__(
        self,
        policies: PolicyShelf,
        pipelines: tuple[TextPipeline, ImagePipeline, Shadows],
        assets: Assets,
        store: Store,
        announce: Announce,
    ) -> None:
        self._policies = policies
        self._texts, self._images, self._shadows = pipelines
        self._assets = assets
        self._store = store
        self._announce = announce
        self._table = EMPTY_TABLE
        self._reading = asyncio.Lock()
        self._turns = Turns()

    async def start(self) -> None:
        """Reads the blocked pictures; before the first verdict."""
        await self._blocked()

    async def prompt(self, texts: Sequence[Text], asker: Asker) -> Verdict:
        """Judges all texts together."""
        length = sum(len(text.text) for text in texts)
        subject = _subject(SubjectKind.PROMPT, asker, texts_digest(texts), length)
        async with self._turns.of(asker.tenant, length):
            return await self._record_prompt(subject, texts, asker)

    async def _record_prompt(self, subject: Subject, texts: Sequence[Text], asker: Asker) -> Verdict:
        for _ in range(RACES):
            book = self._policies.book
            policy = self._policies.usable(asker.tenant, book)
            outcome = await self._texts.judge(texts, policy)
            verdict = await self._unless_exempt(_verdict(subject, outcome, policy, asker.safety), outcome, policy)
            shadows = await self._shadows.of_texts(texts, outcome, book.shadows_for(asker.tenant, policy), asker.safety)
            verdict = await self._after_strikes(verdict, policy)
            given = Given(verdict, Basis(book.changes), shadows, _words(verdict, texts), policy.document.strikes)
            note = replace(_note(asker, policy), text=await _kept(texts, policy))
            stored = await self._store.record(given, note, self._announce)
            if stored is not None:
                return stored
            await self._policies.refresh()
        raise Unavailable("policies are being changed faster than texts can be judged", retry_after=1.0)

    async def image(self, image: Image, asker: Asker) -> Verdict:
        """Judges one picture; the verdict is bound to the bytes that were read here."""
        async with self._images.slot():
            data = image.inline or await self._assets.read(image.asset_id, asker.tenant)
            seen = await self._images.inspect(data)
            subject = _subject(SubjectKind.IMAGE, asker, seen.sha256, len(data), image.asset_id)
            return await self._record_image(subject, seen, asker)

    async def _record_image(self, subject: Subject, seen: Inspection, asker: Asker) -> Verdict:
        asked = await self._store.signs_of(subject.tenant, subject.job_id)
        for _ in range(RACES):
            table, book = await self._blocked(), self._policies.book
            policy = self._policies.usable(asker.tenant, book)
            outcome = await self._images.judge(seen, policy, table, asked)
            verdict = _verdict(subject, outcome, policy, asker.safety)
            shadows = of_image(outcome, book.shadows_for(asker.tenant, policy), asker.safety)
            given = Given(verdict, Basis(book.changes, table.version), shadows)
            stored = await self._store.record(given, _note(asker, policy), self._announce)
            if stored is not None:
                return stored
            await self._policies.refresh()
        raise Unavailable("pictures are being blocked faster than one can be judged", retry_after=1.0)

    async def _blocked(self) -> HashTable:
        """All pictures that are blocked now: what is among them must not be shown to anybody, not even once."""
        async with self._reading:
            if await self._store.blocklist_version() != self._table.version:
                self._table = await self._store.hash_table()
            return self._table

    async def _unless_exempt(self, verdict: Verdict, outcome: Outcome, policy: Policy) -> Verdict:
        """The verdict, or for a prompt that a person let through one in which only the floor decides."""
        subject, safety = verdict.subject, verdict.safety
        if verdict.judgement.decision is Decision.ALLOW:
            return verdict
        if not await self._store.exempted(subject, policy.policy_id, policy.version):
            return verdict
        judgement = judge(above_floor(outcome.findings), policy.rules.floor(), safety)
        verdict_id = _verdict_id(subject, policy, safety.key, judgement.decision.name)
        return replace(verdict, verdict_id=verdict_id, judgement=judgement)

    async def _after_strikes(self, verdict: Verdict, policy: Policy) -> Verdict:
        """The verdict, stricter for a user who has too many strikes."""
        rule, subject = policy.document.strikes, verdict.subject
        harder = struck(verdict, rule)
        if (
            not subject.user
            or harder is verdict
            or await self._store.strikes(subject.tenant, subject.user) < rule.count
        ):
            return verdict
        decision = harder.judgement.decision.name
        return replace(harder, verdict_id=_verdict_id(subject, policy, verdict.safety.key, decision))

    async def verdict(self, verdict_id: str, tenant: str) -> Verdict:
        """A stored verdict of the tenant; an empty tenant sees all."""
        found = await self._store.verdict(verdict_id, tenant)
        if found is None:
            raise NotFound(f"there is no verdict {verdict_id!r}", reason="VERDICT_NOT_FOUND")
        return found


def _subject(kind: SubjectKind, asker: Asker, sha256: str, length: int, asset_id: str = "") -> Subject:
    return Subject(kind, asker.tenant, sha256, length, asker.job_id, asset_id, asker.user)


def _words(verdict: Verdict, texts: Sequence[Text]) -> str:
    """What a reviewer must read."""
    return kept(texts, "PLAIN") if verdict.judgement.decision is Decision.REVIEW else ""


async def _kept(texts: Sequence[Text], policy: Policy) -> str:
    """In a thread, since scrubbing reads every character."""
    retention = policy.document.text_retention
    return "" if retention == "HASHED" else await asyncio.to_thread(kept, texts, retention)


def _note(asker: Asker, policy: Policy) -> AuditNote:
    return AuditNote(asker.actor, asker.trace_id, policy.etag)


def _verdict(subject: Subject, outcome: Outcome, policy: Policy, safety: Safety) -> Verdict:
    findings = (*outcome.findings, *coverage.findings(outcome.not_evaluated, policy))
    judgement = judge(findings, policy.rules, safety)
    verdict_id = _verdict_id(subject, policy, safety.key, judgement.decision.name)
    return Verdict(
        verdict_id,
        subject,
        judgement,
        policy.policy_id,
        policy.version,
        outcome.not_evaluated,
        safety=safety,
        signs=outcome.sides.signs,
    )


def _verdict_id(subject: Subject, policy: Policy, safety: str, decision: str) -> str:
    """Within a job the same content under the same policy has one verdict, however often it is asked for.

    The decision is part of it: when a picture's hash was blocked since, the second verdict is another one.
    """
    if not subject.job_id:
        return new_id("vrd")
    content = (subject.kind.value, subject.sha256, subject.asset_id)
    return derived_id("vrd", subject.tenant, subject.job_id, *content, policy.policy_id, policy.etag, safety, decision)
