"""A Llama Guard behind any server that speaks OpenAI's chat API (vLLM, Ollama, llama.cpp, a hosted one): texts, and
pictures where the model sees them.

Options: `base_url` (up to `/v1`), `model`, `key_env` where the server asks for one, `content: [texts]` for models
without eyes, `score` (default .9; the model says safe or unsafe and nothing between). The server's chat template makes
the guard's prompt. It answers `safe`, or `unsafe` and a line of category codes. Source: the model card of Llama Guard 3
and 4 (MLCommons' hazards); S6 (specialised advice) and S13 (elections) count for nothing here.
"""

from __future__ import annotations

import json
import re
from base64 import b64encode
from collections.abc import Sequence

from pydantic import BaseModel, Field

from services.moderation.classifiers.vendor import Ask, Counts, Label, Meanings, PictureFit, bearer, needed
from services.moderation.plug_ins import PlugIn
from services.moderation.verdicts import Category

KIND = "chat-guard"
MOST_TOKENS = 64

_LABELS: Meanings = {
    "S1": (Counts(Category.VIOLENCE), Counts(Category.GORE)),
    "S2": (Counts(Category.ILLEGAL),),
    "S3": (Counts(Category.SEXUAL), Counts(Category.ILLEGAL)),
    "S4": (Counts(Category.SEXUAL_MINORS),),
    "S5": (Counts(Category.DEFAMATION),),
    "S6": (),
    "S7": (Counts(Category.PII),),
    "S8": (Counts(Category.BRAND),),
    "S9": (Counts(Category.WEAPONS),),
    "S10": (Counts(Category.HATE), Counts(Category.HARASSMENT)),
    "S11": (Counts(Category.SELF_HARM),),
    "S12": (Counts(Category.SEXUAL),),
    "S13": (),
    "S14": (Counts(Category.ILLEGAL),),
}


class _Message(BaseModel):
    content: str


class _Choice(BaseModel):
    message: _Message


class _Answer(BaseModel):
    choices: list[_Choice] = Field(min_length=1)


class ChatGuard:
    """See the module."""

    text_labels = _LABELS
    picture_labels = _LABELS
    longest = 16_000
    fit = PictureFit(most_side=1_120, most_bytes=4_000_000)

    def __init__(self, plug_in: PlugIn) -> None:
        self.version = self._model = plug_in.options.model
        self._score = plug_in.options.score
        self._url = f"{plug_in.options.base_url}/chat/completions"
        self._headers = bearer(plug_in)

    def ask_text(self, text: str) -> Ask:
        """See the port."""
        return self._ask(text)

    def ask_picture(self, data: bytes, media_type: str) -> Ask:
        """See the port."""
        url = f"data:{media_type};base64,{b64encode(data).decode()}"
        return self._ask([{"type": "image_url", "image_url": {"url": url}}])

    def _ask(self, content: object) -> Ask:
        body = {
            "model": self._model,
            "messages": [{"role": "user", "content": content}],
            "temperature": 0,
            "max_tokens": MOST_TOKENS,
        }
        return Ask(self._url, json.dumps(body).encode(), self._headers)

    def read_text(self, answer: bytes) -> Sequence[Label]:
        """See the port; an answer that is neither safe nor unsafe with known codes is a wrong one."""
        words = _Answer.model_validate_json(answer).choices[0].message.content.strip().lower()
        if words == "safe":
            return []
        match = re.fullmatch(r"unsafe\s+(s\d{1,2}(?:\s*,\s*s\d{1,2})*)", words)
        codes = [code.strip().upper() for code in match[1].split(",")] if match else []
        if not codes or not set(codes) <= set(_LABELS):
            raise ValueError("neither safe nor unsafe")
        return [Label(code, self._score) for code in codes]

    def read_picture(self, answer: bytes) -> Sequence[Label]:
        """As `read_text`."""
        return self.read_text(answer)


def make(plug_in: PlugIn) -> ChatGuard:
    """Raises ClassifierError."""
    needed(plug_in, "base_url", "model")
    return ChatGuard(plug_in)
