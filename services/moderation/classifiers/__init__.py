"""The table of classifiers: a layer's name to the factory that makes it, or None where the settings turn it off."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from services.moderation.classifiers import sentence
from services.moderation.classifiers.base import Capability, ImageClassifier, Picture, TextClassifier
from services.moderation.config import ModerationSettings

TEXT_CLASSIFIERS: Mapping[str, Callable[[ModerationSettings], TextClassifier | None]] = {sentence.NAME: sentence.make}
IMAGE_CLASSIFIERS: Mapping[str, Callable[[ModerationSettings], ImageClassifier | None]] = {}

__all__ = ["IMAGE_CLASSIFIERS", "TEXT_CLASSIFIERS", "Capability", "ImageClassifier", "Picture", "TextClassifier"]
