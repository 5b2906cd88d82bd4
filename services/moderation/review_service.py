"""The edge of ReviewService: decode, call, encode."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import grpc.aio
from imagemesh.moderation.v1 import review_pb2, review_service_pb2_grpc
from imagemesh.moderation.v1 import review_service_pb2 as pb2

from mesh import telemetry
from mesh.auth import OPERATOR, REVIEWER, principal
from mesh.paging import decode_token, page_size
from mesh.validation import check
from services.moderation import wire_reviews as wire
from services.moderation.appealing import Appealing
from services.moderation.deciding import Deciding
from services.moderation.policy_changes import Who
from services.moderation.report_store import Complaint, Reports
from services.moderation.review_store import Queue, Reviews
from services.moderation.strike_store import StrikeBook
from services.moderation.takedown_store import Wish
from services.moderation.taking_down import TakingDown
from services.moderation.wire import CATEGORIES

Context = grpc.aio.ServicerContext[Any, Any]


@dataclass(frozen=True)
class ReviewParts:
    """What the service calls."""

    reviews: Reviews
    deciding: Deciding
    appealing: Appealing
    reports: Reports
    taking_down: TakingDown
    strikes: StrikeBook


class ReviewService(review_service_pb2_grpc.ReviewServiceServicer):
    """Reviews, appeals, reports, takedowns, strikes."""

    def __init__(self, parts: ReviewParts) -> None:
        self._parts = parts

    async def ListReviews(self, request: pb2.ListReviewsRequest, context: Context) -> pb2.ListReviewsResponse:
        """See the contract."""
        check(request, wire.LIST_RULES)
        size = page_size(request.page_size)
        categories = tuple(CATEGORIES[number] for number in request.categories)
        scope = f"reviews:{request.state}:{request.severity}:{sorted(categories)}"
        state = _name(review_pb2.ReviewState.Name(request.state), "REVIEW_STATE_")
        queue = Queue(size + 1, state, request.severity, categories, _place(request.page_token, scope))
        found = await self._parts.reviews.page(queue)
        page, token = wire.paged(
            found,
            size,
            scope,
            wire.review_out,
            lambda one: (int(one.review.severity), one.review.create_us, one.review.review_id),
        )
        return pb2.ListReviewsResponse(reviews=page, next_page_token=token)

    async def ClaimReview(self, request: pb2.ClaimReviewRequest, context: Context) -> pb2.ClaimReviewResponse:
        """See the contract."""
        check(request, wire.CLAIM_RULES)
        claimed = await self._parts.reviews.claim(request.review_id, principal().key_id)
        return pb2.ClaimReviewResponse(review=wire.review_out(claimed, text=True))

    async def ReleaseReview(self, request: pb2.ReleaseReviewRequest, context: Context) -> pb2.ReleaseReviewResponse:
        """See the contract."""
        check(request, wire.RELEASE_RULES)
        released = await self._parts.reviews.release(request.review_id, principal().key_id)
        return pb2.ReleaseReviewResponse(review=wire.review_out(released))

    async def DecideReview(self, request: pb2.DecideReviewRequest, context: Context) -> pb2.DecideReviewResponse:
        """See the contract."""
        ruling = wire.ruling_of(request)
        decided = await self._parts.deciding.review(request.review_id, request.etag, ruling, _who())
        return pb2.DecideReviewResponse(review=wire.review_out(decided))

    async def AppealVerdict(self, request: pb2.AppealVerdictRequest, context: Context) -> pb2.AppealVerdictResponse:
        """See the contract."""
        check(request, wire.APPEAL_RULES)
        made = await self._parts.appealing.make(request.verdict_id, request.statement, principal().tenant, _who())
        return pb2.AppealVerdictResponse(appeal=wire.appeal_out(made))

    async def ListAppeals(self, request: pb2.ListAppealsRequest, context: Context) -> pb2.ListAppealsResponse:
        """See the contract."""
        check(request, wire.APPEALS_RULES)
        size, tenant = page_size(request.page_size), _tenant_or_all()
        scope = f"appeals:{tenant}:{request.state}"
        after = _moment(request.page_token, scope)
        state = _name(review_pb2.AppealState.Name(request.state), "APPEAL_STATE_")
        found = await self._parts.appealing.appeals.page(tenant, state, after, size + 1)
        page, token = wire.paged(found, size, scope, wire.appeal_out, lambda one: (one.create_us, one.appeal_id))
        return pb2.ListAppealsResponse(appeals=page, next_page_token=token)

    async def DecideAppeal(self, request: pb2.DecideAppealRequest, context: Context) -> pb2.DecideAppealResponse:
        """See the contract."""
        check(request, wire.DECIDE_APPEAL_RULES)
        granted = wire.OUTCOMES[request.outcome]
        decided = await self._parts.deciding.appeal(request.appeal_id, request.answer, granted=granted, who=_who())
        return pb2.DecideAppealResponse(appeal=wire.appeal_out(decided))

    async def ReportAsset(self, request: pb2.ReportAssetRequest, context: Context) -> pb2.ReportAssetResponse:
        """See the contract."""
        wire.checked_report(request)
        asset = await self._parts.taking_down.find(request.asset_id, request.url, principal().tenant)
        complaint = Complaint(CATEGORIES[request.reason], request.statement, request.reporter)
        report = await self._parts.taking_down.report(asset, complaint, _who())
        return pb2.ReportAssetResponse(report=wire.report_out(report))

    async def ListReports(self, request: pb2.ListReportsRequest, context: Context) -> pb2.ListReportsResponse:
        """See the contract."""
        check(request, wire.REPORTS_RULES)
        size, scope = page_size(request.page_size), f"reports:{request.state}"
        state = _name(review_pb2.ReportState.Name(request.state), "REPORT_STATE_") or "OPEN"
        found = await self._parts.reports.page(state, _place(request.page_token, scope), size + 1)
        page, token = wire.paged(
            found, size, scope, wire.report_out, lambda one: (int(one.severity), one.create_us, one.report_id)
        )
        return pb2.ListReportsResponse(reports=page, next_page_token=token)

    async def TakeDownAsset(self, request: pb2.TakeDownAssetRequest, context: Context) -> pb2.TakeDownAssetResponse:
        """See the contract."""
        check(request, wire.TAKE_DOWN_RULES)
        wish = Wish(CATEGORIES[request.reason], request.note, request.legal_hold)
        takedown = await self._parts.taking_down.take_down(request.asset_id, wish, _who())
        return pb2.TakeDownAssetResponse(takedown=wire.takedown_out(takedown))

    async def RestoreAsset(self, request: pb2.RestoreAssetRequest, context: Context) -> pb2.RestoreAssetResponse:
        """See the contract."""
        check(request, wire.RESTORE_RULES)
        takedown = await self._parts.taking_down.restore(request.takedown_id, request.note, _who())
        return pb2.RestoreAssetResponse(takedown=wire.takedown_out(takedown))

    async def SetLegalHold(self, request: pb2.SetLegalHoldRequest, context: Context) -> pb2.SetLegalHoldResponse:
        """See the contract."""
        check(request, wire.HOLD_RULES)
        until = request.until_time.ToMicroseconds() if request.HasField("until_time") else 0
        await self._parts.taking_down.hold(request.asset_id, until if request.hold else None, request.note, _who())
        return pb2.SetLegalHoldResponse(asset_id=request.asset_id, hold=request.hold)

    async def ListStrikes(self, request: pb2.ListStrikesRequest, context: Context) -> pb2.ListStrikesResponse:
        """See the contract."""
        check(request, wire.STRIKES_RULES)
        size, tenant = page_size(request.page_size), _tenant_or_all()
        scope = f"strikes:{tenant}:{request.user}"
        found = await self._parts.strikes.page(tenant, request.user, _moment(request.page_token, scope), size + 1)
        page, token = wire.paged(found, size, scope, wire.strike_out, lambda one: (one.create_us, one.strike_id))
        return pb2.ListStrikesResponse(strikes=page, next_page_token=token)

    async def ClearStrikes(self, request: pb2.ClearStrikesRequest, context: Context) -> pb2.ClearStrikesResponse:
        """See the contract."""
        check(request, wire.CLEAR_RULES)
        cleared = await self._parts.strikes.clear(request.tenant, request.user, request.note, _who())
        return pb2.ClearStrikesResponse(cleared=cleared)


def _who() -> Who:
    return Who(principal().key_id, telemetry.current().trace_id)


def _tenant_or_all() -> str:
    """The tenant whose things the caller sees; empty for reviewers and operators, who see all."""
    caller = principal()
    return caller.tenant if caller.roles.isdisjoint({REVIEWER, OPERATOR}) else ""


def _name(name: str, prefix: str) -> str:
    """The value of an enum without its prefix; empty for UNSPECIFIED."""
    return name.removeprefix(prefix).replace("UNSPECIFIED", "")


def _place(token: str, scope: str) -> tuple[int, int, str] | None:
    if not token:
        return None
    severity, created, identity = decode_token(token, scope, (int, int, str))
    return int(severity), int(created), str(identity)


def _moment(token: str, scope: str) -> tuple[int, str] | None:
    if not token:
        return None
    created, identity = decode_token(token, scope, (int, str))
    return int(created), str(identity)
