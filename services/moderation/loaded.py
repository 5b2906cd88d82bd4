"""The classifiers of one process: those that come with the service, the plug-ins, and the reader of pictures."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Mapping, Sequence

from mesh.health import Check
from services.moderation.classifiers import (
    IMAGE_CLASSIFIERS,
    TEXT_CLASSIFIERS,
    Caller,
    ImageClassifier,
    TextClassifier,
    open_nsfw,
    plug,
    sentence,
)
from services.moderation.config import ModerationSettings
from services.moderation.layers import C, Classifier
from services.moderation.picture_text import NAME as READER
from services.moderation.picture_text import open_reader
from services.moderation.plug_ins import PlugIn

HEALTH = "classifier-"  # before a plug-in's name


def loaded_layers(settings: ModerationSettings, plug_ins: Sequence[PlugIn]) -> tuple[str, ...]:
    """The names of the layers that `Loaded` will have."""
    on = {sentence.NAME: bool(settings.encoder), open_nsfw.NAME: settings.picture_model, READER: settings.ocr}
    built_in = (name for name in (*TEXT_CLASSIFIERS, *IMAGE_CLASSIFIERS, READER) if on.get(name, True))
    return (*built_in, *(each.name for each in plug_ins))


class Loaded:
    """Made as the settings say; raises ClassifierError. `checks`: a health name for each plug-in."""

    def __init__(self, settings: ModerationSettings, plug_ins: Sequence[PlugIn]) -> None:
        self._caller = Caller()
        self.texts: list[TextClassifier] = _made(TEXT_CLASSIFIERS, settings)
        self.images: list[ImageClassifier] = _made(IMAGE_CLASSIFIERS, settings)
        self.checks: dict[str, Check] = {}
        for each in plug_ins:
            plugged = plug(each, self._caller)
            self.texts += [plugged.texts] if plugged.texts else []
            self.images += [plugged.pictures] if plugged.pictures else []
            self.checks[f"{HEALTH}{each.name}"] = plugged.check
        self.reader = open_reader() if settings.ocr else None
        _give_back()

    async def close(self) -> None:
        """Closes all of them."""
        classifiers: list[Classifier] = [*self.texts, *self.images, *([self.reader] if self.reader else [])]
        for classifier in classifiers:
            await classifier.close()
        await self._caller.close()


def _give_back() -> None:
    """Loading models leaves tens of MiB of freed graphs in glibc's pool, which keeps them unless it is asked."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


def _made(table: Mapping[str, Callable[[ModerationSettings], C | None]], settings: ModerationSettings) -> list[C]:
    """The classifiers of the table that the settings leave on."""
    made = (make(settings) for make in table.values())
    return [classifier for classifier in made if classifier is not None]
