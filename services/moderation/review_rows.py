"""Reviews as table rows and back; pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from services.moderation.reviews import Cause, Review, Severity, State
from services.moderation.verdicts import Category, Decision


def review_of(row: Mapping[str, Any]) -> Review:
    """The review in a row of `reviews`."""
    return Review(
        **{
            **row,
            "cause": Cause(row["cause"]),
            "severity": Severity(row["severity"]),
            "categories": tuple(Category(name) for name in row["categories"].split("|") if name),
            "state": State(row["state"]),
            "decision": Decision[row["decision"]] if row["decision"] else None,
            "reason": Category(row["reason"]) if row["reason"] else None,
        }
    )


def review_row(review: Review) -> dict[str, Any]:
    """The row of `reviews`; categories stand between bars, so that each can be looked for."""
    return {
        **asdict(review),
        "cause": review.cause.value,
        "severity": int(review.severity),
        "categories": "".join(f"|{category.value}" for category in review.categories) + "|",
        "state": review.state.value,
        "decision": review.decision.name if review.decision is not None else "",
        "reason": review.reason.value if review.reason is not None else "",
        "text": storable(review.text),
    }


def storable(text: str) -> str:
    """PostgreSQL keeps neither NUL nor half a surrogate pair."""
    return text.replace("\0", "\N{REPLACEMENT CHARACTER}").encode("utf-8", "replace").decode()
