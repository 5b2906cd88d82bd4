"""OpenAI's moderation endpoint: texts and pictures.

Options: `key_env`; `model` (default the dated omni-moderation, so that thresholds keep their meaning); `base_url`.
Pictures are scored for sexual content, violence and self-harm only. Source: OpenAI's API reference,
`POST /moderations`.
"""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Mapping, Sequence

from pydantic import BaseModel, Field

from services.moderation.classifiers.vendor import Ask, Counts, Label, Meanings, PictureFit, bearer, needed
from services.moderation.plug_ins import PlugIn
from services.moderation.verdicts import Category

KIND = "openai"
BASE_URL = "https://api.openai.com/v1"
MODEL = "omni-moderation-2024-09-26"

_BOTH: Meanings = {
    "sexual": (Counts(Category.SEXUAL),),
    "violence": (Counts(Category.VIOLENCE),),
    "violence/graphic": (Counts(Category.GORE), Counts(Category.VIOLENCE)),
    "self-harm": (Counts(Category.SELF_HARM),),
    "self-harm/intent": (Counts(Category.SELF_HARM),),
    "self-harm/instructions": (Counts(Category.SELF_HARM),),
}
_TEXTS: Meanings = {
    **_BOTH,
    "sexual/minors": (Counts(Category.SEXUAL_MINORS),),
    "harassment": (Counts(Category.HARASSMENT),),
    "harassment/threatening": (Counts(Category.HARASSMENT),),
    "hate": (Counts(Category.HATE),),
    "hate/threatening": (Counts(Category.HATE),),
    "illicit": (Counts(Category.ILLEGAL),),
    "illicit/violent": (Counts(Category.ILLEGAL), Counts(Category.WEAPONS)),
}


class _Result(BaseModel):
    category_scores: Mapping[str, float] = Field(min_length=1)


class _Answer(BaseModel):
    results: list[_Result] = Field(min_length=1, max_length=1)


class OpenAiModeration:
    """See the module."""

    text_labels = _TEXTS
    picture_labels = _BOTH
    longest = 30_000
    fit = PictureFit(most_bytes=10_000_000)

    def __init__(self, plug_in: PlugIn) -> None:
        self._model = plug_in.options.model or MODEL
        self.version = self._model
        self._url = f"{plug_in.options.base_url or BASE_URL}/moderations"
        self._headers = bearer(plug_in)

    def ask_text(self, text: str) -> Ask:
        """See the port."""
        return self._ask({"type": "text", "text": text})

    def ask_picture(self, data: bytes, media_type: str) -> Ask:
        """See the port."""
        url = f"data:{media_type};base64,{b64encode(data).decode()}"
        return self._ask({"type": "image_url", "image_url": {"url": url}})

    def _ask(self, part: Mapping[str, object]) -> Ask:
        return Ask(self._url, json.dumps({"model": self._model, "input": [part]}).encode(), self._headers)

    def read_text(self, answer: bytes) -> Sequence[Label]:
        """See the port; a missing category is a wrong answer."""
        return _labels(answer, self.text_labels)

    def read_picture(self, answer: bytes) -> Sequence[Label]:
        """See the port; a missing category is a wrong answer."""
        return _labels(answer, self.picture_labels)


def _labels(answer: bytes, expected: Meanings) -> list[Label]:
    scores = _Answer.model_validate_json(answer).results[0].category_scores
    missing = sorted(set(expected) - set(scores))
    if missing:
        raise ValueError(f"no score for {', '.join(missing)}")
    return [Label(name, score) for name, score in scores.items()]


def make(plug_in: PlugIn) -> OpenAiModeration:
    """Raises ClassifierError."""
    if not plug_in.options.base_url:
        needed(plug_in, "key_env")
    return OpenAiModeration(plug_in)
