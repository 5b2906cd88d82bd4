"""One judgement from request to stored verdict; the flow that both rpcs share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from mesh.errors import NotFound, Unavailable
from mesh.ids import derived_id, new_id
from services.moderation.image_pipeline import ImagePipeline, Inspection
from services.moderation.layers import Outcome
from services.moderation.peers.assets import Assets
from services.moderation.perceptual import EMPTY_TABLE
from services.moderation.policies import Policy, PolicyBook
from services.moderation.rows import AuditNote
from services.moderation.store import Announce, Store
from services.moderation.text_pipeline import TextPipeline
from services.moderation.verdicts import Image, Safety, Subject, SubjectKind, Text, Verdict, judge, texts_digest

TABLE_RACES = 5  # times a picture is judged anew because pictures were blocked meanwhile


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
        book: PolicyBook,
        pipelines: tuple[TextPipeline, ImagePipeline],
        assets: Assets,
        store: Store,
        announce: Announce,
    ) -> None:
        self._book = book
        self._texts, self._images = pipelines
        self._assets = assets
        self._store = store
        self._announce = announce
        self._table = EMPTY_TABLE

    async def prompt(self, texts: Sequence[Text], asker: Asker) -> Verdict:
        """Judges all texts together."""
        policy = self._book.for_tenant(asker.tenant)
        length = sum(len(text.text) for text in texts)
        subject = _subject(SubjectKind.PROMPT, asker, texts_digest(texts), length)
        verdict = _verdict(subject, await self._texts.judge(texts, policy), policy, asker.safety)
        stored = await self._store.record(verdict, _note(asker, policy), self._announce)
        return _told(stored, verdict)

    async def image(self, image: Image, asker: Asker) -> Verdict:
        """Judges one picture; the verdict is bound to the bytes that were read here."""
        policy = self._book.for_tenant(asker.tenant)
        async with self._images.slot():
            data = image.inline or await self._assets.read(image.asset_id, asker.tenant)
            seen = await self._images.inspect(data)
            subject = _subject(SubjectKind.IMAGE, asker, seen.sha256, len(data), image.asset_id)
            return await self._record_image(subject, seen, policy, asker)

    async def _record_image(self, subject: Subject, seen: Inspection, policy: Policy, asker: Asker) -> Verdict:
        for _ in range(TABLE_RACES):
            table = self._table
            verdict = _verdict(subject, await self._images.judge(seen, policy, table), policy, asker.safety)
            stored = await self._store.record(verdict, _note(asker, policy), self._announce, table.version)
            if stored is not None:
                return _told(stored, verdict)
            self._table = await self._store.hash_table()
        raise Unavailable("pictures are being blocked faster than one can be judged", retry_after=1.0)

    async def verdict(self, verdict_id: str, tenant: str) -> Verdict:
        """A stored verdict of the tenant; an empty tenant sees all."""
        found = await self._store.verdict(verdict_id, tenant)
        if found is None:
            raise NotFound(f"there is no verdict {verdict_id!r}", reason="VERDICT_NOT_FOUND")
        return found


def _subject(kind: SubjectKind, asker: Asker, sha256: str, length: int, asset_id: str = "") -> Subject:
    return Subject(kind, asker.tenant, sha256, length, asker.job_id, asset_id, asker.user)


def _note(asker: Asker, policy: Policy) -> AuditNote:
    return AuditNote(asker.actor, asker.trace_id, policy.etag)


def _verdict(subject: Subject, outcome: Outcome, policy: Policy, safety: Safety) -> Verdict:
    judgement = judge(outcome.findings, policy.rules, safety)
    verdict_id = _verdict_id(subject, policy, safety.key, judgement.decision.name)
    return Verdict(verdict_id, subject, judgement, policy.policy_id, policy.version, outcome.not_evaluated)


def _verdict_id(subject: Subject, policy: Policy, safety: str, decision: str) -> str:
    """Within a job the same content under the same policy has one verdict, however often it is asked for.

    The decision is part of it: when a picture's hash was blocked since, the second verdict is another one.
    """
    if not subject.job_id:
        return new_id("vrd")
    content = (subject.kind.value, subject.sha256, subject.asset_id)
    return derived_id("vrd", subject.tenant, subject.job_id, *content, policy.policy_id, policy.etag, safety, decision)


def _told(stored: Verdict | None, given: Verdict) -> Verdict:
    """The row that a repeat found; a missing one means that the id belongs to somebody else, which cannot be."""
    if stored is None:
        raise Unavailable(f"the verdict {given.verdict_id} could not be stored", retry_after=1.0)
    return stored
