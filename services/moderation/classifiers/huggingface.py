"""Any Hugging Face classifier of texts or pictures by HTTP: a dedicated endpoint, or the hub's router by model id.

Options: `labels` (what each of the model's labels counts for), `content: [texts]` or `[pictures]`, `base_url` (an
Inference Endpoint, which pins a revision) or `model` (owner/name at the router, which pins none), `key_env`. A label
that the model gives and `labels` does not name counts for nothing. Source: the hub's task pages
`text-classification` and `image-classification`. Without a server: `huggingface-local`.
"""

from __future__ import annotations

import json
from collections.abc import Sequence

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from services.moderation.classifiers.base import ClassifierError
from services.moderation.classifiers.vendor import Ask, Counts, Label, Meanings, PictureFit, bearer, needed
from services.moderation.plug_ins import PlugIn

KIND = "huggingface"
ROUTER = "https://router.huggingface.co/hf-inference/models"


class _Score(BaseModel):
    model_config = ConfigDict(strict=True)

    label: str
    score: float = Field(ge=0, le=1)


_LIST = TypeAdapter(list[_Score])
_NESTED = TypeAdapter(list[list[_Score]])


class HuggingFace:
    """See the module."""

    longest = 1_500  # characters; such models read 512 tokens and cut off the rest
    fit = PictureFit(frozenset({"png", "jpeg"}), most_side=1_024)

    def __init__(self, plug_in: PlugIn) -> None:
        options = plug_in.options
        self.version = options.model or options.base_url.rsplit("/", 1)[-1]
        self._url = options.base_url or f"{ROUTER}/{options.model}"
        self._headers = bearer(plug_in)
        self.text_labels = meanings(plug_in, "texts")
        self.picture_labels = meanings(plug_in, "pictures")

    def ask_text(self, text: str) -> Ask:
        """See the port."""
        body = {"inputs": text, "parameters": {"top_k": 100}}
        return Ask(self._url, json.dumps(body).encode(), self._headers)

    def ask_picture(self, data: bytes, media_type: str) -> Ask:
        """See the port; the bytes as they are."""
        return Ask(self._url, data, {**self._headers, "Content-Type": media_type})

    def read_text(self, answer: bytes) -> Sequence[Label]:
        """See the port; a list of labels, which some servers put into another list."""
        nested = answer.lstrip()[:1] == b"[" and answer.lstrip()[1:].lstrip()[:1] == b"["
        scores = _NESTED.validate_json(answer)[0] if nested else _LIST.validate_json(answer)
        return _known(scores, self.text_labels)

    def read_picture(self, answer: bytes) -> Sequence[Label]:
        """See the port."""
        return _known(_LIST.validate_json(answer), self.picture_labels)


def _known(scores: Sequence[_Score], expected: Meanings) -> list[Label]:
    """None of the expected labels is another model's answer."""
    if not {score.label for score in scores} & set(expected):
        raise ValueError("none of the expected labels")
    return [Label(score.label, score.score) for score in scores]


def meanings(plug_in: PlugIn, content: str) -> Meanings:
    """What the labels of the options count for; none where it is not asked about that content."""
    if content not in plug_in.options.content:
        return {}
    return {name: (Counts(each.category, each.weight),) for name, each in plug_in.options.labels.items()}


def one_content(plug_in: PlugIn) -> None:
    """Raises ClassifierError unless the model is for texts or for pictures, and its labels are told."""
    needed(plug_in, "labels")
    if len(plug_in.options.content) != 1:
        raise ClassifierError(f"classifier {plug_in.name}: content: [texts] or [pictures], as the model is for")


def make(plug_in: PlugIn) -> HuggingFace:
    """Raises ClassifierError."""
    one_content(plug_in)
    if not plug_in.options.base_url:
        needed(plug_in, "model", "key_env")
    return HuggingFace(plug_in)
