"""Reviews in SQL: opened with their verdict, claimed by one reviewer at a time, listed in the queue's order."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import sqlalchemy as sa

from mesh.db import Database, insert_or_ignore, now_us
from mesh.errors import FailedPrecondition, NotFound
from services.moderation.review_rows import review_of, review_row
from services.moderation.review_tables import REVIEWS
from services.moderation.reviews import CLAIM_S, DUE_S, Cause, Review, Severity, State
from services.moderation.rows import verdict_of
from services.moderation.tables import VERDICTS
from services.moderation.verdicts import Category, Verdict

R = REVIEWS.c
Place = tuple[int, int, str]  # severity, when it was opened, id

_NOW = sa.select(now_us())
_BY_TOPIC = sa.select(R.state, R.outcome_id).where(R.topic == sa.bindparam("wanted"))


@dataclass(frozen=True)
class Queue:
    """Which reviews to list. state: PENDING, CLAIMED, DECIDED or EXPIRED; empty: pending and claimed."""

    size: int
    state: str = ""
    severity: int = 0
    categories: tuple[Category, ...] = ()
    after: Place | None = None


@dataclass(frozen=True)
class Shown:
    """A review with the verdict it is about (None for a report of a picture without one), and when it was read."""

    review: Review
    verdict: Verdict | None
    now_us: int


class Reviews:
    """The queue. Every method is one transaction."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def page(self, queue: Queue) -> Sequence[Shown]:
        """The most severe first, oldest first within a severity."""
        return await self._database.read(lambda c: _page(c, queue))

    async def claim(self, review_id: str, reviewer: str) -> Shown:
        """Gives the review, or the first that nobody has, to the reviewer until the claim ends.

        NotFound (REVIEW_NOT_FOUND), also for an empty queue; FailedPrecondition when it is not to be had.
        """
        return await self._database.write(lambda c: _claim(c, review_id, reviewer))

    async def release(self, review_id: str, reviewer: str) -> Shown:
        """Gives it back to the queue; FailedPrecondition unless the reviewer has it."""
        return await self._database.write(lambda c: _release(c, review_id, reviewer))


def clock(connection: sa.Connection) -> int:
    """The database's clock, in microseconds."""
    return int(connection.execute(_NOW).scalar_one())


def open_review(connection: sa.Connection, review: Review) -> Review | None:
    """Puts it into the queue; None when there is one about the same."""
    now = clock(connection)
    opened = replace(review, create_us=now, due_us=now + DUE_S * 1_000_000)
    return opened if insert_or_ignore(connection, REVIEWS, review_row(opened)) else None


def outcome_of(connection: sa.Connection, topic: str) -> str:
    """The id of the verdict that was decided about the topic; empty while it is open, and where there is no review."""
    row = connection.execute(_BY_TOPIC, {"wanted": topic}).first()
    return "" if row is None or row.state == State.OPEN else str(row.outcome_id)


def waiting_about(parameter: str) -> sa.Select[tuple[str]]:
    """Selects the id of the open review about the topic in this parameter."""
    return sa.select(R.review_id).where(R.topic == sa.bindparam(parameter), R.state == State.OPEN.value)


def locked(connection: sa.Connection, review_id: str) -> Review:
    """The review, until the commit for this transaction alone; NotFound when there is none."""
    row = connection.execute(sa.select(REVIEWS).where(R.review_id == review_id).with_for_update()).mappings().first()
    if row is None:
        raise NotFound(f"there is no review {review_id!r}", reason="REVIEW_NOT_FOUND")
    return review_of(row)  # type: ignore[arg-type]  # keys are column names


def save(connection: sa.Connection, before: Review, **changes: Any) -> Review:
    """The locked review with some fields changed."""
    after = replace(before, revision=before.revision + 1, **changes)
    connection.execute(sa.update(REVIEWS).where(R.review_id == after.review_id).values(review_row(after)))
    return after


def show(connection: sa.Connection, review: Review) -> Shown:
    """The review with its verdict."""
    return _shown(connection, [review])[0]


def _claim(connection: sa.Connection, review_id: str, reviewer: str) -> Shown:
    now = clock(connection)
    review = locked(connection, review_id or _first(connection, now))
    if review.state is not State.OPEN:
        raise FailedPrecondition(f"the review is {review.state}")
    if review.claimed(now) and review.reviewer != reviewer:
        raise FailedPrecondition("another reviewer has it")
    return show(connection, save(connection, review, reviewer=reviewer, claim_us=now + CLAIM_S * 1_000_000))


def _first(connection: sa.Connection, now: int) -> str:
    """The first that nobody has, and nobody is just taking."""
    in_time = sa.or_(R.cause != Cause.VERDICT.value, R.due_us > now)
    query = (
        sa.select(R.review_id)
        .where(R.state == State.OPEN.value, R.claim_us <= now, in_time)
        .order_by(R.severity.desc(), R.create_us, R.review_id)
        .limit(1)
        .with_for_update(skip_locked=True)
    )
    found = connection.execute(query).scalar()
    if found is None:
        raise NotFound("nothing waits for a reviewer", reason="REVIEW_NOT_FOUND")
    return str(found)


def _release(connection: sa.Connection, review_id: str, reviewer: str) -> Shown:
    review = locked(connection, review_id)
    if not review.claimed(clock(connection)) or review.reviewer != reviewer:
        raise FailedPrecondition("you do not have this review")
    return show(connection, save(connection, review, reviewer="", claim_us=0))


def _page(connection: sa.Connection, queue: Queue) -> list[Shown]:
    now = clock(connection)
    query = (
        sa.select(REVIEWS)
        .where(*_conditions(queue, now))
        .order_by(R.severity.desc(), R.create_us, R.review_id)
        .limit(queue.size)
    )
    reviews = [review_of(row) for row in connection.execute(query).mappings()]  # type: ignore[arg-type]  # column names
    return _shown(connection, reviews)


def _conditions(queue: Queue, now: int) -> list[sa.ColumnElement[bool]]:
    is_open = R.state == State.OPEN.value
    states = {
        "": is_open,
        "PENDING": sa.and_(is_open, R.claim_us <= now),
        "CLAIMED": sa.and_(is_open, R.claim_us > now),
    }
    conditions = [states.get(queue.state, R.state == queue.state)]
    if queue.severity:
        conditions.append(R.severity >= int(Severity(queue.severity)))
    if queue.categories:
        conditions.append(
            sa.or_(*(R.categories.contains(f"|{one.value}|", autoescape=True) for one in queue.categories))
        )
    if queue.after is not None:
        severity, opened, review_id = queue.after
        later = sa.or_(R.create_us > opened, sa.and_(R.create_us == opened, R.review_id > review_id))
        conditions.append(sa.or_(R.severity < severity, sa.and_(R.severity == severity, later)))
    return conditions


def _shown(connection: sa.Connection, reviews: Sequence[Review]) -> list[Shown]:
    now = clock(connection)
    wanted = [review.verdict_id for review in reviews if review.verdict_id]
    rows = connection.execute(sa.select(VERDICTS).where(VERDICTS.c.verdict_id.in_(wanted))).mappings()
    verdicts = {row["verdict_id"]: verdict_of(row) for row in rows}  # type: ignore[arg-type]  # keys are column names
    return [Shown(review, verdicts.get(review.verdict_id), now) for review in reviews]
