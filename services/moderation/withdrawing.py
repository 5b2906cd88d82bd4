"""Ends what waits for people about a user who is erased: nobody can read what it was about, so nobody may let it out.

A verdict under review becomes BLOCK, as if nobody had decided in time; an appeal is denied.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

import sqlalchemy as sa

from mesh.errors import Internal
from services.moderation import appeal_store
from services.moderation.closing import close, put_on_record, tell_settled
from services.moderation.policy_changes import Who
from services.moderation.review_store import locked
from services.moderation.review_tables import REVIEWS
from services.moderation.reviews import BY_TIME, Cause, Review, Ruling, State, decided
from services.moderation.store import keep_verdict, verdict_by_id
from services.moderation.verdicts import Decision, SubjectKind, Verdict

BATCH = 100
WITHDRAWN = Ruling(Decision.BLOCK, note="withdrawn: its user was erased")
R = REVIEWS.c

Record = Callable[[sa.Connection], object]


def withdraw(connection: sa.Connection, tenant: str, user: str, who: Who) -> list[Review]:
    """Ends up to `BATCH` of the user's open reviews; those that a reviewer has too."""
    mine = (R.tenant == tenant, R.end_user == user, R.state == State.OPEN.value)
    query = sa.select(R.review_id).where(*mine).order_by(R.review_id).limit(BATCH).with_for_update()
    waiting = [locked(connection, review_id) for review_id in connection.execute(query).scalars().all()]
    ended = [_ENDINGS[review.cause](connection, _nobodys_review(review), who) for review in waiting]
    for _, record in ended:  # last of all, since it holds up every other append
        record(connection)
    return [review for review, _ in ended]


def _verdict(connection: sa.Connection, review: Review, who: Who) -> tuple[Review, Record]:
    first = _nobodys(_standing(connection, review))
    verdict = keep_verdict(connection, decided(first, WITHDRAWN, review.review_id, BY_TIME))
    closed = close(connection, review, WITHDRAWN, "", verdict.verdict_id)
    return closed, lambda c: put_on_record(c, closed, who, first.subject.sha256)


def _appeal(connection: sa.Connection, review: Review, who: Who) -> tuple[Review, Record]:
    settled = appeal_store.settle(connection, review.about, "", granted=False, who=who)
    tell_settled(connection, settled)
    closed = close(connection, review, WITHDRAWN, "", review.verdict_id)
    appeal, verdict = replace(settled.appeal, answer=WITHDRAWN.note), _nobodys(settled.verdict)
    return closed, lambda c: appeal_store.put_on_record(c, appeal, verdict, who)


# A report is about somebody else's picture, and has no user.
_ENDINGS: Mapping[Cause, Callable[[sa.Connection, Review, Who], tuple[Review, Record]]] = {
    Cause.VERDICT: _verdict,
    Cause.APPEAL: _appeal,
}


def _standing(connection: sa.Connection, review: Review) -> Verdict:
    verdict = verdict_by_id(connection, review.verdict_id)
    if verdict is None:
        raise Internal("the review's verdict is gone")
    return verdict


def _nobodys_review(review: Review) -> Review:
    """The review without its user. Outside a job others may ask for the same text, and get a review of their own."""
    return replace(review, end_user="", topic=review.topic if review.job_id else review.review_id)


def _nobodys(verdict: Verdict) -> Verdict:
    """The verdict without what tells of a person, as erasure leaves it."""
    subject = verdict.subject
    known = "" if subject.kind is SubjectKind.PROMPT else subject.sha256
    return replace(verdict, subject=replace(subject, user="", sha256=known))
