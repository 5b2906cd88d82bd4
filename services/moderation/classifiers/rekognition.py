"""Amazon Rekognition's DetectModerationLabels: pictures.

Options: `region`; `key_env` (the secret access key) and `extra_env` with `access_key_id`, and `session_token` for
temporary ones; `base_url`. botocore signs (SigV4; the extra `moderation-aws`). Source: Rekognition's API reference and
its list of moderation labels, version 7. The top-level labels of
violence only flag, since they come with every child, also with a weapon that is only shown.
"""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Sequence

from pydantic import BaseModel, ConfigDict, Field

from services.moderation.classifiers.base import ClassifierError
from services.moderation.classifiers.vendor import Ask, Counts, Label, Meanings, PictureFit, PicturesOnly, needed
from services.moderation.plug_ins import PlugIn
from services.moderation.verdicts import Category

KIND = "rekognition"
SERVICE = "rekognition"
TARGET = "RekognitionService.DetectModerationLabels"
LEAST_CONFIDENCE = 20  # percent; lower ones are not told

_LABELS: Meanings = {
    "Explicit": (Counts(Category.SEXUAL),),
    "Explicit Nudity": (Counts(Category.SEXUAL),),
    "Explicit Sexual Activity": (Counts(Category.SEXUAL),),
    "Sex Toys": (Counts(Category.SEXUAL),),
    "Non-Explicit Nudity": (Counts(Category.SEXUAL, 0.5),),  # bare backs and the like: flagged at most
    "Obstructed Intimate Parts": (Counts(Category.SEXUAL, 0.5),),
    "Female Swimwear or Underwear": (Counts(Category.SEXUAL, 0.3),),
    "Male Swimwear or Underwear": (Counts(Category.SEXUAL, 0.3),),
    "Violence": (Counts(Category.VIOLENCE, 0.4),),
    "Visually Disturbing": (Counts(Category.GORE, 0.4),),
    "Weapons": (Counts(Category.VIOLENCE, 0.4),),  # shown, not used
    "Graphic Violence": (Counts(Category.VIOLENCE),),
    "Weapon Violence": (Counts(Category.VIOLENCE),),
    "Physical Violence": (Counts(Category.VIOLENCE),),
    "Explosions and Blasts": (Counts(Category.VIOLENCE, 0.5),),
    "Self-Harm": (Counts(Category.SELF_HARM),),
    "Blood & Gore": (Counts(Category.GORE),),
    "Death and Emaciation": (Counts(Category.GORE),),
    "Emaciated Bodies": (Counts(Category.GORE),),
    "Corpses": (Counts(Category.GORE),),
    "Hate Symbols": (Counts(Category.HATE),),
    "Nazi Party": (Counts(Category.HATE),),
    "White Supremacy": (Counts(Category.HATE),),
    "Extremist": (Counts(Category.HATE),),
}


class _Label(BaseModel):
    model_config = ConfigDict(strict=True)

    name: str = Field(alias="Name")
    confidence: float = Field(alias="Confidence", ge=0, le=100)


class _Answer(BaseModel):
    labels: list[_Label] = Field(alias="ModerationLabels")


class Rekognition(PicturesOnly):
    """See the module."""

    version = "rekognition-7"
    picture_labels = _LABELS
    fit = PictureFit(frozenset({"png", "jpeg"}), least_side=50, most_side=4_096, most_bytes=5_000_000)

    def __init__(self, plug_in: PlugIn) -> None:
        from botocore.credentials import Credentials

        region = plug_in.options.region
        self._url = f"{plug_in.options.base_url or f'https://rekognition.{region}.amazonaws.com'}/"
        self._region = region
        token = plug_in.secrets.get("session_token")
        self._credentials = Credentials(
            plug_in.secrets["access_key_id"].get_secret_value(),
            plug_in.key.get_secret_value(),
            token.get_secret_value() if token else None,
        )

    def ask_picture(self, data: bytes, media_type: str) -> Ask:
        """See the port; signed for a few minutes."""
        from botocore.auth import SigV4Auth
        from botocore.awsrequest import AWSRequest

        image = {"Bytes": b64encode(data).decode()}
        body = json.dumps({"Image": image, "MinConfidence": LEAST_CONFIDENCE}).encode()
        headers = {"Content-Type": "application/x-amz-json-1.1", "X-Amz-Target": TARGET}
        request = AWSRequest("POST", self._url, headers=headers, data=body)
        SigV4Auth(self._credentials, SERVICE, self._region).add_auth(request)
        return Ask(self._url, body, dict(request.headers.items()))

    def read_picture(self, answer: bytes) -> Sequence[Label]:
        """See the port; no labels at all are a clean picture."""
        labels = _Answer.model_validate_json(answer).labels
        return [Label(label.name, label.confidence / 100) for label in labels]


def make(plug_in: PlugIn) -> Rekognition:
    """Raises ClassifierError."""
    needed(plug_in, "region", "key_env", "extra_env.access_key_id")
    try:
        return Rekognition(plug_in)
    except ImportError as error:
        raise ClassifierError(f"classifier {plug_in.name}: install the extra moderation-aws") from error
