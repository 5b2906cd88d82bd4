"""Azure AI Content Safety: texts and pictures.

Options: `base_url` (the resource's endpoint), `key_env`. Severities 0, 2, 4 and 6 (8 steps for texts) become scores: 4
reaches the default policy's review tier, 6 its block tier. Source: Content Safety's REST reference, 2024-09-01,
`text:analyze` and `image:analyze`.
"""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Mapping, Sequence

from pydantic import BaseModel, ConfigDict, Field

from services.moderation.classifiers.vendor import JSON, Ask, Counts, Label, Meanings, PictureFit, needed
from services.moderation.plug_ins import PlugIn
from services.moderation.verdicts import Category

KIND = "azure-content-safety"
API_VERSION = "2024-09-01"
SEVERITIES = (0.0, 0.15, 0.35, 0.5, 0.65, 0.8, 0.95, 1.0)

_LABELS: Meanings = {
    "Hate": (Counts(Category.HATE),),
    "SelfHarm": (Counts(Category.SELF_HARM),),
    "Sexual": (Counts(Category.SEXUAL),),
    "Violence": (Counts(Category.VIOLENCE), Counts(Category.GORE)),
}


class _Category(BaseModel):
    model_config = ConfigDict(strict=True)

    category: str
    severity: int = Field(ge=0, le=7)


class _Answer(BaseModel):
    found: list[_Category] = Field(alias="categoriesAnalysis")


class AzureContentSafety:
    """See the module."""

    version = f"content-safety-{API_VERSION}"
    text_labels = _LABELS
    picture_labels = _LABELS
    longest = 10_000
    fit = PictureFit(least_side=50, most_side=2_048, most_bytes=4_000_000)

    def __init__(self, plug_in: PlugIn) -> None:
        self._base = f"{plug_in.options.base_url}/contentsafety"
        self._headers = {"Content-Type": JSON, "Ocp-Apim-Subscription-Key": plug_in.key.get_secret_value()}

    def ask_text(self, text: str) -> Ask:
        """See the port."""
        return self._ask("text:analyze", {"text": text, "outputType": "EightSeverityLevels"})

    def ask_picture(self, data: bytes, media_type: str) -> Ask:
        """See the port."""
        image = {"content": b64encode(data).decode()}
        return self._ask("image:analyze", {"image": image, "outputType": "FourSeverityLevels"})

    def _ask(self, what: str, body: Mapping[str, object]) -> Ask:
        url = f"{self._base}/{what}?api-version={API_VERSION}"
        return Ask(url, json.dumps({**body, "categories": list(_LABELS)}).encode(), self._headers)

    def read_text(self, answer: bytes) -> Sequence[Label]:
        """See the port; a missing category is a wrong answer."""
        found = {each.category: each.severity for each in _Answer.model_validate_json(answer).found}
        if not set(_LABELS) <= set(found):
            raise ValueError("not all categories")
        return [Label(name, SEVERITIES[severity]) for name, severity in found.items()]

    def read_picture(self, answer: bytes) -> Sequence[Label]:
        """See the port; a missing category is a wrong answer."""
        return self.read_text(answer)


def make(plug_in: PlugIn) -> AzureContentSafety:
    """Raises ClassifierError."""
    needed(plug_in, "base_url", "key_env")
    return AzureContentSafety(plug_in)
