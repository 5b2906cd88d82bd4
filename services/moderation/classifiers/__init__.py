"""The table of classifiers: name in a configuration to the factory that makes it. None is built in yet."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from services.moderation.classifiers.base import Capability, ImageClassifier, Picture, TextClassifier

TEXT_CLASSIFIERS: Mapping[str, Callable[[], TextClassifier]] = {}
IMAGE_CLASSIFIERS: Mapping[str, Callable[[], ImageClassifier]] = {}

__all__ = ["IMAGE_CLASSIFIERS", "TEXT_CLASSIFIERS", "Capability", "ImageClassifier", "Picture", "TextClassifier"]
