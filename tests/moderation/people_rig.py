"""Small ways to be a reviewer, an operator or a caller over a running service."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field

from google.protobuf.message import Message
from imagemesh.moderation.v1 import review_pb2, verdict_pb2
from imagemesh.moderation.v1 import review_service_pb2 as pb

from services.moderation.tables import OUTBOX
from tests.moderation.policy_rig import LIVE, Rig
from tests.moderation.running import Metadata, Running, key

REVIEWER, OPERATOR, CALLER = key("reviewer"), key("operator"), key("acme")
SECOND = key("all roles")  # another reviewer
ALLOW, BLOCK, REVIEW = verdict_pb2.DECISION_ALLOW, verdict_pb2.DECISION_BLOCK, verdict_pb2.DECISION_REVIEW
SEXUAL = verdict_pb2.CATEGORY_SEXUAL
BORDERLINE = "a nude woman on a sofa"


@dataclass
class People:
    service: Running
    _numbers: itertools.count[int] = field(default_factory=itertools.count)

    @property
    def asked_of_storage(self) -> list[str]:
        """What storage was asked to do with assets, in order."""
        return [what for what, *_ in self.service.assets.done]

    async def reviewing(self) -> None:
        """From here on sexual content and self-harm wait for people, however sure a layer is."""
        rig = Rig(self.service)
        policy = await rig.get()
        policy.review_decision = REVIEW
        for limits in policy.thresholds:
            if limits.category in (SEXUAL, verdict_pb2.CATEGORY_SELF_HARM):
                limits.ClearField("block")
        await rig.move(await rig.set(policy, (await rig.newest()).etag), LIVE)

    async def queue(self, **wanted: object) -> list[review_pb2.Review]:
        answer = await self.service.people.ListReviews(pb.ListReviewsRequest(**wanted), metadata=REVIEWER)
        return list(answer.reviews)

    async def claim(self, review_id: str = "", who: Metadata = REVIEWER) -> review_pb2.Review:
        request = pb.ClaimReviewRequest(review_id=review_id)
        return (await self.service.people.ClaimReview(request, metadata=who)).review

    async def decide(
        self, review: review_pb2.Review, decision: verdict_pb2.Decision.ValueType, who: Metadata = REVIEWER
    ) -> review_pb2.Review:
        reason = SEXUAL if decision == BLOCK else verdict_pb2.CATEGORY_UNSPECIFIED
        request = pb.DecideReviewRequest(
            review_id=review.review_id, decision=decision, reason=reason, note="seen", etag=review.etag
        )
        return (await self.service.people.DecideReview(request, metadata=who)).review

    async def appeal(self, verdict_id: str, who: Metadata = CALLER) -> review_pb2.Appeal:
        request = pb.AppealVerdictRequest(verdict_id=verdict_id, statement="it is a museum piece")
        return (await self.service.people.AppealVerdict(request, metadata=who)).appeal

    async def settle(self, appeal: review_pb2.Appeal, *, granted: bool, who: Metadata = REVIEWER) -> review_pb2.Appeal:
        outcome = review_pb2.APPEAL_STATE_GRANTED if granted else review_pb2.APPEAL_STATE_DENIED
        request = pb.DecideAppealRequest(appeal_id=appeal.appeal_id, outcome=outcome, answer="looked again")
        return (await self.service.people.DecideAppeal(request, metadata=who)).appeal

    async def report(self, asset_id: str = "", url: str = "", reporter: str = "ann") -> review_pb2.Report:
        request = pb.ReportAssetRequest(reason=SEXUAL, statement="look at this", reporter=reporter)
        if url:
            request.url = url
        else:
            request.asset_id = asset_id
        return (await self.service.people.ReportAsset(request, metadata=CALLER)).report

    async def take_down(self, asset_id: str, *, legal_hold: bool = False) -> review_pb2.Takedown:
        request = pb.TakeDownAssetRequest(asset_id=asset_id, reason=SEXUAL, note="a report", legal_hold=legal_hold)
        return (await self.service.people.TakeDownAsset(request, metadata=OPERATOR)).takedown

    async def restore(self, takedown_id: str) -> review_pb2.Takedown:
        request = pb.RestoreAssetRequest(takedown_id=takedown_id, note="a mistake")
        return (await self.service.people.RestoreAsset(request, metadata=OPERATOR)).takedown

    async def events(self, message: type[Message]) -> list[Message]:
        """Those of one kind that were written so far, as messages."""
        rows = await self.service.rows(OUTBOX)
        return [message.FromString(row["data"]) for row in rows if row["type"] == message.DESCRIPTOR.name]
