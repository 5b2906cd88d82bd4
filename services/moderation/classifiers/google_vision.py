"""Google Cloud Vision's SafeSearch: pictures.

Options: `key_env` (an API key); `base_url`. Its likelihoods are words; UNKNOWN is no judgement. Source: Cloud Vision's
reference, `images.annotate`, `SafeSearchAnnotation`.
"""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import BaseModel, Field

from services.moderation.classifiers.vendor import JSON, Ask, Counts, Label, Meanings, PictureFit, PicturesOnly, needed
from services.moderation.plug_ins import PlugIn
from services.moderation.verdicts import Category

KIND = "google-vision"
BASE_URL = "https://vision.googleapis.com/v1"

# A likelihood as a score: LIKELY reaches the default policy's review tier, VERY_LIKELY its block tier.
LIKELIHOODS: Mapping[str, float] = {
    "VERY_UNLIKELY": 0.0,
    "UNLIKELY": 0.1,
    "POSSIBLE": 0.4,
    "LIKELY": 0.7,
    "VERY_LIKELY": 0.95,
}


_LABELS: Meanings = {
    "adult": (Counts(Category.SEXUAL),),
    "racy": (Counts(Category.SEXUAL, 0.5),),  # swimwear and the like: flagged at most
    "violence": (Counts(Category.VIOLENCE), Counts(Category.GORE)),  # "death, serious harm, or injury"
}


class _Safety(BaseModel):
    adult: str
    violence: str
    racy: str


class _Response(BaseModel):
    safe: _Safety = Field(alias="safeSearchAnnotation")
    error: Mapping[str, Any] | None = None


class _Answer(BaseModel):
    responses: list[_Response] = Field(min_length=1, max_length=1)


class SafeSearch(PicturesOnly):
    """See the module."""

    version = "safe-search-v1"
    picture_labels = _LABELS
    fit = PictureFit(most_bytes=7_000_000)  # a request has 10 MB, in base64

    def __init__(self, plug_in: PlugIn) -> None:
        self._url = f"{plug_in.options.base_url or BASE_URL}/images:annotate"
        self._headers = {"Content-Type": JSON, "X-Goog-Api-Key": plug_in.key.get_secret_value()}

    def ask_picture(self, data: bytes, media_type: str) -> Ask:
        """See the port."""
        request = {"image": {"content": b64encode(data).decode()}, "features": [{"type": "SAFE_SEARCH_DETECTION"}]}
        return Ask(self._url, json.dumps({"requests": [request]}).encode(), self._headers)

    def read_picture(self, answer: bytes) -> Sequence[Label]:
        """See the port; UNKNOWN and words that are new are wrong answers."""
        response = _Answer.model_validate_json(answer).responses[0]
        words = response.safe.model_dump()
        if response.error is not None or not set(words.values()) <= set(LIKELIHOODS):
            raise ValueError("no judgement")
        return [Label(name, LIKELIHOODS[word]) for name, word in words.items()]


def make(plug_in: PlugIn) -> SafeSearch:
    """Raises ClassifierError."""
    needed(plug_in, "key_env")
    return SafeSearch(plug_in)
