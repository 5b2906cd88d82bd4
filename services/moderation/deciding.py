"""What a person's decision does: about a verdict, a report or an appeal, each in one transaction with its events."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace

import sqlalchemy as sa

from mesh.db import Database
from mesh.errors import Aborted, FailedPrecondition, Internal
from mesh.ids import derived_id
from services.moderation import appeal_store, report_store, takedown_store
from services.moderation.appeal_store import Appeal, Settled
from services.moderation.closing import close, end_upheld, put_on_record, tell_settled
from services.moderation.peers.assets import AssetFacts
from services.moderation.policies import Strikes
from services.moderation.policy_changes import Who
from services.moderation.review_store import Shown, clock, locked, show
from services.moderation.review_tables import REVIEWS
from services.moderation.reviews import BY_TIME, Cause, Review, Ruling, State, decided
from services.moderation.storage_orders import StorageOrders
from services.moderation.store import keep_verdict, verdict_by_id
from services.moderation.strike_store import give
from services.moderation.takedown_store import Wish
from services.moderation.verdicts import Category, Decision

OVERDUE_BATCH = 100
R = REVIEWS.c
StrikeRule = Callable[[str], Strikes]
"""The rule of a tenant's policy as it is now."""
Tell = Callable[[str], Awaitable[None]]
"""Lets the router know that something was decided about a job; it may be lost."""


@dataclass(frozen=True)
class Done:
    """What a decision leaves to do after its commit. content: what storage must be told of; empty: nothing."""

    shown: Shown
    content: str = ""


@dataclass(frozen=True)
class _Case:
    """A locked review, what is decided about it, and by whom."""

    review: Review
    ruling: Ruling
    who: Who
    strikes: StrikeRule


class Deciding:
    """Decides reviews and appeals, and ends reviews that nobody decided."""

    def __init__(self, database: Database, orders: StorageOrders, strikes: StrikeRule, tell: Tell) -> None:
        self._database = database
        self._orders = orders
        self._strikes = strikes
        self._tell = tell

    async def review(self, review_id: str, etag: str, ruling: Ruling, who: Who) -> Shown:
        """Decides what the reviewer has claimed; see DecideReview in the contract."""
        done = await self._database.write(lambda c: _decide(c, (review_id, etag), ruling, who, self._strikes))
        review = done.shown.review
        await self._afterwards(review.job_id, done.content, publishing=review.cause is Cause.APPEAL)
        return done.shown

    async def appeal(self, appeal_id: str, answer: str, *, granted: bool, who: Who) -> Appeal:
        """Decides an appeal; see DecideAppeal in the contract."""
        settled = await self._database.write(lambda c: _decide_appeal(c, appeal_id, answer, granted, who))
        await self._afterwards("", settled.content, publishing=True)
        return settled.appeal

    async def expire(self) -> int:
        """Ends overdue reviews of verdicts, which blocks what they were about; tells how many."""
        expired = await self._database.write(_expire)
        for review in expired:
            await self._afterwards(review.job_id, "")
        return len(expired)

    async def _afterwards(self, job_id: str, content: str, *, publishing: bool = False) -> None:
        if job_id:
            await self._tell(job_id)
        if content:
            await self._orders.carry_out(content, publishing=publishing)


def _decide(connection: sa.Connection, which: tuple[str, str], ruling: Ruling, who: Who, strikes: StrikeRule) -> Done:
    review_id, etag = which
    review = locked(connection, review_id)
    if _repeated(review, etag, ruling, who):
        return Done(show(connection, review), _content(connection, review))
    if not review.claimed(clock(connection)) or review.reviewer != who.actor:
        raise FailedPrecondition("claim the review first: only who has it may decide it")
    if review.etag != etag:
        raise Aborted("the review was changed since it was read; claim it again and use its etag")
    case = _Case(review, ruling, who, strikes)
    outcome_id, content, record = _CONSEQUENCES[review.cause](connection, case)
    closed = close(connection, review, ruling, who.actor, outcome_id)
    record(connection, closed)
    return Done(show(connection, closed), content)


def _repeated(review: Review, etag: str, ruling: Ruling, who: Who) -> bool:
    """Whether the reviewer decided just this before; the answer may have been lost, or have been UNAVAILABLE."""
    claimed = replace(review, revision=review.revision - 1)
    decided = (review.decision, review.reason, review.note)
    mine = review.state is State.DECIDED and review.reviewer == who.actor
    return mine and decided == (ruling.decision, ruling.reason, ruling.note) and claimed.etag == etag


def _content(connection: sa.Connection, review: Review) -> str:
    """What storage was told of because of the decided review."""
    if review.cause is Cause.REPORT and review.decision is Decision.BLOCK:
        return report_store.by_id(connection, review.about).sha256
    if review.cause is Cause.APPEAL and review.decision is Decision.ALLOW:
        return appeal_store.settled(connection, review.about).content
    return ""


Record = Callable[[sa.Connection, Review], object]
"""Puts the closed review on record."""
Consequence = tuple[str, str, Record]
"""The verdict that now stands, what storage must be told of, and what goes on record, last of all."""


def _about_verdict(connection: sa.Connection, case: _Case) -> Consequence:
    review = case.review
    first = verdict_by_id(connection, review.verdict_id)
    if first is None:
        raise Internal("the review's verdict is gone")
    verdict = keep_verdict(connection, decided(first, case.ruling, review.review_id))
    give(connection, verdict, case.strikes(review.tenant))
    return verdict.verdict_id, "", lambda c, closed: put_on_record(c, closed, case.who, verdict.subject.sha256)


def _about_report(connection: sa.Connection, case: _Case) -> Consequence:
    review, ruling = case.review, case.ruling
    report = report_store.by_id(connection, review.about)
    if ruling.decision is Decision.ALLOW:
        report_store.end(connection, report_store.P.report_id == review.about, report_store.DISMISSED)
        return review.verdict_id, "", lambda c, closed: put_on_record(c, closed, case.who, report.sha256)
    asset = AssetFacts(report.asset_id, report.tenant, "PUBLISHED", "OUTPUT", report.sha256)
    wish = Wish(ruling.reason or Category.ILLEGAL, ruling.note)
    others = [other for other in report_store.uphold(connection, report.sha256) if other != review.review_id]
    ended = end_upheld(connection, others, ruling, case.who)
    taken = takedown_store.take_down(connection, asset, wish, case.who)

    def record(connection: sa.Connection, closed: Review) -> None:
        for each in (closed, *ended):
            put_on_record(connection, each, case.who, report.sha256)
        takedown_store.record(connection, taken, case.who, ruling.note)

    return review.verdict_id, report.sha256, record


def _about_appeal(connection: sa.Connection, case: _Case) -> Consequence:
    granted = case.ruling.decision is Decision.ALLOW
    settled = appeal_store.settle(connection, case.review.about, "", granted=granted, who=case.who)
    tell_settled(connection, settled)
    standing = derived_id("vrd", case.review.about, "ALLOW") if granted else case.review.verdict_id
    appeal = replace(settled.appeal, answer=case.ruling.note)
    return standing, settled.content, lambda c, _: appeal_store.put_on_record(c, appeal, settled.verdict, case.who)


_CONSEQUENCES: Mapping[Cause, Callable[[sa.Connection, _Case], Consequence]] = {
    Cause.VERDICT: _about_verdict,
    Cause.REPORT: _about_report,
    Cause.APPEAL: _about_appeal,
}


def _decide_appeal(connection: sa.Connection, appeal_id: str, answer: str, granted: bool, who: Who) -> Settled:
    review = locked(connection, _review_of(connection, appeal_id))
    before = appeal_store.settled(connection, appeal_id)
    if before.appeal.decided(answer, granted=granted, by=who.actor):
        return before
    if review.claimed(clock(connection)) and review.reviewer != who.actor:
        raise FailedPrecondition("another reviewer has the appeal's review")
    settled = appeal_store.settle(connection, appeal_id, answer, granted=granted, who=who)
    ruling = Ruling(Decision.ALLOW if granted else Decision.BLOCK, note=answer)
    standing = derived_id("vrd", appeal_id, "ALLOW") if granted else review.verdict_id
    close(connection, review, ruling, who.actor, standing)
    tell_settled(connection, settled)
    appeal_store.put_on_record(connection, settled.appeal, settled.verdict, who)
    return settled


def _review_of(connection: sa.Connection, appeal_id: str) -> str:
    """The id of the appeal's review, whether or not there is such an appeal."""
    appeal_store.require(connection, appeal_id)
    return derived_id("rev", appeal_id)


def _expire(connection: sa.Connection) -> list[Review]:
    """A reviewer who has one may finish it."""
    now = clock(connection)
    overdue = (
        sa.select(R.review_id)
        .where(R.state == State.OPEN.value, R.cause == Cause.VERDICT.value, R.due_us <= now, R.claim_us <= now)
        .order_by(R.due_us)
        .limit(OVERDUE_BATCH)
        .with_for_update(skip_locked=True)
    )
    ids = connection.execute(overdue).scalars().all()
    return [_end_overdue(connection, locked(connection, review_id)) for review_id in ids]


def _end_overdue(connection: sa.Connection, review: Review) -> Review:
    ruling = Ruling(Decision.BLOCK, note="nobody decided in time")
    first = verdict_by_id(connection, review.verdict_id)
    if first is None:
        raise Internal("the review's verdict is gone")
    verdict = keep_verdict(connection, decided(first, ruling, review.review_id, BY_TIME))
    closed = close(connection, review, ruling, "", verdict.verdict_id)
    put_on_record(connection, closed, Who("mesh", ""), first.subject.sha256)
    return closed
