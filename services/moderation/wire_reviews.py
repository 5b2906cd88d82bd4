"""The messages of ReviewService as domain values and back; pure. One table of rules for each request."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp
from imagemesh.moderation.v1 import review_pb2, verdict_pb2
from imagemesh.moderation.v1 import review_service_pb2 as pb2

from mesh.errors import invalid
from mesh.paging import Position, encode_token
from mesh.validation import Rule, check, length, matches, one_of
from services.moderation.appeal_store import Appeal
from services.moderation.report_store import Report
from services.moderation.review_store import Shown
from services.moderation.reviews import NOTE_CHARACTERS, Review, Ruling, State
from services.moderation.strike_store import Strike
from services.moderation.takedown_store import Takedown
from services.moderation.verdicts import Category, Decision
from services.moderation.wire import CATEGORIES, USER_FIX, category_out, decision_out, verdict_out, words

PAGE_BYTES = 3 * 1024 * 1024
RULINGS = {verdict_pb2.DECISION_ALLOW: Decision.ALLOW, verdict_pb2.DECISION_BLOCK: Decision.BLOCK}
OUTCOMES = {review_pb2.APPEAL_STATE_GRANTED: True, review_pb2.APPEAL_STATE_DENIED: False}
M = TypeVar("M", bound=Message)
T = TypeVar("T")

_ID = r"[A-Za-z0-9_.:-]{1,64}"
_ID_FIX = "required: at most 64 letters, digits and the signs _.:-"
_NOTE_FIX = "at most 4,000 characters, none of them NUL"
_NOTE = Rule("note", words(0, NOTE_CHARACTERS), _NOTE_FIX)
_NOTE_REQUIRED = Rule("note", words(1, NOTE_CHARACTERS), f"required: {_NOTE_FIX}")
_REASON = Rule("reason", one_of(*CATEGORIES), "required: a category of the contract")
_ASSET = Rule("asset_id", matches(r"ast_[a-z0-9_]{1,60}"), "required: an asset's id, ast_…")
_REVIEW = Rule("review_id", matches(_ID), _ID_FIX)

LIST_RULES = (
    Rule("state", one_of(*review_pb2.ReviewState.values()), "a state of the contract"),
    Rule("severity", one_of(*review_pb2.Severity.values()), "a severity of the contract"),
    Rule("categories", lambda given: set(given) <= set(CATEGORIES), "categories of the contract only"),
)
CLAIM_RULES = (Rule("review_id", matches(f"{_ID}|"), "empty, or " + _ID_FIX),)
RELEASE_RULES = (_REVIEW,)
DECIDE_RULES = (
    _REVIEW,
    Rule("decision", one_of(*RULINGS), "ALLOW or BLOCK"),
    Rule("etag", length(1, 64), "required: the review's as last read"),
    _NOTE,
)
APPEAL_RULES = (
    Rule("verdict_id", matches(_ID), _ID_FIX),
    Rule("statement", length(1, NOTE_CHARACTERS), "required: at most 4,000 characters"),
)
APPEALS_RULES = (Rule("state", one_of(*review_pb2.AppealState.values()), "a state of the contract"),)
DECIDE_APPEAL_RULES = (
    Rule("appeal_id", matches(_ID), _ID_FIX),
    Rule("outcome", one_of(*OUTCOMES), "GRANTED or DENIED"),
    Rule("answer", length(0, NOTE_CHARACTERS), "at most 4,000 characters"),
)
REPORT_RULES = (
    _ASSET,
    Rule("url", length(1, 2048), "1 to 2,048 characters"),
    _REASON,
    Rule("statement", length(0, NOTE_CHARACTERS), "at most 4,000 characters"),
    Rule("reporter", words(0, 256), USER_FIX),
)
REPORTS_RULES = (Rule("state", one_of(*review_pb2.ReportState.values()), "a state of the contract"),)
TAKE_DOWN_RULES = (_ASSET, _REASON, _NOTE)
RESTORE_RULES = (Rule("takedown_id", matches(_ID), _ID_FIX), _NOTE_REQUIRED)
HOLD_RULES = (_ASSET, _NOTE_REQUIRED)
STRIKES_RULES = (Rule("user", words(0, 256), USER_FIX),)
CLEAR_RULES = (
    Rule("tenant", matches(r"[a-z0-9][a-z0-9-]{0,62}"), "required: the tenant"),
    Rule("user", words(1, 256), f"required: {USER_FIX}"),
    _NOTE,
)


def ruling_of(request: pb2.DecideReviewRequest) -> Ruling:
    """What the reviewer decides; InvalidArgument with every mistake."""
    check(request, DECIDE_RULES)
    decision = RULINGS[request.decision]
    if decision is Decision.BLOCK:
        check(request, (_REASON,))
        return Ruling(decision, CATEGORIES[request.reason], request.note)
    return Ruling(decision, None, request.note)


def checked_report(request: pb2.ReportAssetRequest) -> None:
    """InvalidArgument with every mistake of the request."""
    check(request, REPORT_RULES)
    if request.WhichOneof("asset") is None:
        raise invalid("asset", "set asset_id or url")


def review_out(shown: Shown, *, text: bool = False) -> review_pb2.Review:
    """The review as the contract has it; its text only for who has claimed it."""
    review = shown.review
    message = review_pb2.Review(
        review_id=review.review_id,
        tenant=review.tenant,
        state=_state(review, shown.now_us),
        cause=review_pb2.ReviewCause.Value(f"REVIEW_CAUSE_{review.cause.name}"),
        severity=int(review.severity),  # type: ignore[arg-type]  # numbered alike
        verdict=None if shown.verdict is None else verdict_out(shown.verdict),
        asset_id=review.asset_id,
        job_id=review.job_id,
        note=review.note,
        blurred=bool(review.asset_id),
        create_time=_time(review.create_us),
        due_time=_time(review.due_us),
        etag=review.etag,
        text=review.text if text else "",
    )
    if review.state is State.OPEN and review.claimed(shown.now_us):
        message.reviewer = review.reviewer
        message.claim_expire_time.CopyFrom(_time(review.claim_us))
    if review.state is not State.OPEN:
        message.reviewer = review.reviewer
        message.decide_time.CopyFrom(_time(review.decide_us))
        message.decision = decision_out(review.decision or Decision.BLOCK)
        message.reason = _category(review.reason)
    return message


def appeal_out(appeal: Appeal) -> review_pb2.Appeal:
    """The appeal as the contract has it."""
    return review_pb2.Appeal(
        appeal_id=appeal.appeal_id,
        tenant=appeal.tenant,
        verdict_id=appeal.verdict_id,
        state=review_pb2.AppealState.Value(f"APPEAL_STATE_{appeal.state}"),
        statement=appeal.statement,
        answer=appeal.answer,
        reviewer=appeal.reviewer,
        create_time=_time(appeal.create_us),
        decide_time=_time(appeal.decide_us) if appeal.decide_us else None,
    )


def report_out(report: Report) -> review_pb2.Report:
    """The report as the contract has it."""
    return review_pb2.Report(
        report_id=report.report_id,
        tenant=report.tenant,
        asset_id=report.asset_id,
        sha256=report.sha256,
        state=review_pb2.ReportState.Value(f"REPORT_STATE_{report.state}"),
        reason=category_out(report.reason),
        statement=report.statement,
        reporter=report.reporter,
        count=report.count,
        create_time=_time(report.create_us),
        due_time=_time(report.due_us),
    )


def takedown_out(takedown: Takedown) -> review_pb2.Takedown:
    """The takedown as the contract has it."""
    return review_pb2.Takedown(
        takedown_id=takedown.takedown_id,
        tenant=takedown.tenant,
        asset_id=takedown.asset_id,
        sha256=takedown.sha256,
        reason=category_out(takedown.reason),
        note=takedown.note,
        actor=takedown.actor,
        legal_hold=takedown.legal_hold,
        restored=takedown.restored,
        create_time=_time(takedown.create_us),
    )


def strike_out(strike: Strike) -> review_pb2.Strike:
    """The strike as the contract has it."""
    return review_pb2.Strike(
        strike_id=strike.strike_id,
        tenant=strike.tenant,
        user=strike.end_user,
        verdict_id=strike.verdict_id,
        category=category_out(strike.category),
        cleared=strike.cleared,
        create_time=_time(strike.create_us),
        expire_time=_time(strike.expire_us),
    )


def paged(
    found: Sequence[T], size: int, scope: str, out: Callable[[T], M], place: Callable[[T], Position]
) -> tuple[list[M], str]:
    """A page of what was found (one more than `size`, to know whether there is more), and the token of the next.

    A page holds 3 MiB at most, so that every gRPC client can read it.
    """
    page = _fitting(map(out, found[:size]))
    more = len(found) > len(page)
    return page, encode_token(place(found[len(page) - 1]), scope) if more else ""


def _fitting(messages: Iterable[M]) -> list[M]:
    page: list[M] = []
    room = PAGE_BYTES
    for message in messages:
        room -= message.ByteSize()
        if room < 0 and page:
            break
        page.append(message)
    return page


def _state(review: Review, now_us: int) -> review_pb2.ReviewState.ValueType:
    if review.state is State.OPEN:
        claimed = review.claimed(now_us)
        return review_pb2.REVIEW_STATE_CLAIMED if claimed else review_pb2.REVIEW_STATE_PENDING
    return review_pb2.ReviewState.Value(f"REVIEW_STATE_{review.state.name}")


def _category(category: Category | None) -> verdict_pb2.Category.ValueType:
    return category_out(category) if category is not None else verdict_pb2.CATEGORY_UNSPECIFIED


def _time(microseconds: int) -> Timestamp:
    moment = Timestamp()
    moment.FromMicroseconds(microseconds)
    return moment
