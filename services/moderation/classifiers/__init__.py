"""The table of classifiers: a layer's name to the factory that makes it, or None where the settings turn it off."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from services.moderation.classifiers import open_nsfw, sentence
from services.moderation.classifiers.base import Capability, ClassifierError, ImageClassifier, Picture, TextClassifier
from services.moderation.config import ModerationSettings

TextFactory = Callable[[ModerationSettings], TextClassifier | None]
ImageFactory = Callable[[ModerationSettings], ImageClassifier | None]

TEXT_CLASSIFIERS: Mapping[str, TextFactory] = {sentence.NAME: sentence.make}
IMAGE_CLASSIFIERS: Mapping[str, ImageFactory] = {open_nsfw.NAME: open_nsfw.make}

__all__ = [
    "IMAGE_CLASSIFIERS",
    "TEXT_CLASSIFIERS",
    "Capability",
    "ClassifierError",
    "ImageClassifier",
    "Picture",
    "TextClassifier",
]
