"""The tables of classifiers: those that come with the service, by their layer's name, and those to plug in, by kind."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from services.moderation.classifiers import (
    azure_content_safety,
    chat_guard,
    google_vision,
    huggingface,
    huggingface_local,
    open_nsfw,
    openai,
    rekognition,
    sentence,
)
from services.moderation.classifiers.base import (
    Capability,
    ClassifierError,
    ImageClassifier,
    Picture,
    Plugged,
    TextClassifier,
)
from services.moderation.classifiers.calling import Caller
from services.moderation.classifiers.hosted import hosted
from services.moderation.classifiers.vendor import Vendor
from services.moderation.config import ModerationSettings
from services.moderation.plug_ins import PlugIn

TextFactory = Callable[[ModerationSettings], TextClassifier | None]
ImageFactory = Callable[[ModerationSettings], ImageClassifier | None]

TEXT_CLASSIFIERS: Mapping[str, TextFactory] = {sentence.NAME: sentence.make}
IMAGE_CLASSIFIERS: Mapping[str, ImageFactory] = {open_nsfw.NAME: open_nsfw.make}

HOSTED: Mapping[str, Callable[[PlugIn], Vendor]] = {
    azure_content_safety.KIND: azure_content_safety.make,
    chat_guard.KIND: chat_guard.make,
    google_vision.KIND: google_vision.make,
    huggingface.KIND: huggingface.make,
    openai.KIND: openai.make,
    rekognition.KIND: rekognition.make,
}
LOCAL: Mapping[str, Callable[[PlugIn], Plugged]] = {huggingface_local.KIND: huggingface_local.make}


def plug(plug_in: PlugIn, caller: Caller) -> Plugged:
    """The classifiers of texts and of pictures that the plug-in is. Raises ClassifierError."""
    if plug_in.kind in LOCAL:
        return LOCAL[plug_in.kind](plug_in)
    if plug_in.kind not in HOSTED:
        known = ", ".join(sorted([*HOSTED, *LOCAL]))
        raise ClassifierError(f"classifier {plug_in.name}: kind: no {plug_in.kind} here, only {known}")
    return hosted(HOSTED[plug_in.kind](plug_in), plug_in, caller)


__all__ = [
    "HOSTED",
    "IMAGE_CLASSIFIERS",
    "TEXT_CLASSIFIERS",
    "Caller",
    "Capability",
    "ClassifierError",
    "ImageClassifier",
    "Picture",
    "Plugged",
    "TextClassifier",
    "plug",
]
