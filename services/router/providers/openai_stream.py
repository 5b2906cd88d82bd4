"""OpenAI's streamed pictures: events `….partial_image` of `image_generation` or `image_edit`, then `….completed`.

An `error` object within the data ends the stream; `[DONE]` may follow the last event.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from typing import Any

from services.router.providers import sse
from services.router.providers.answers import broken, bytes_of, json_of
from services.router.providers.base import Listener
from services.router.providers.errors import ErrorKind, ProviderError
from services.router.providers.http import HttpStream
from services.router.providers.media import media_type_of
from services.router.providers.openai_answers import late_error, request_id_of


class Watched:
    """Tells the listener of unfinished pictures."""

    def __init__(self, listener: Listener, wanted: int) -> None:
        self._listener = listener
        self._wanted = wanted
        self._shown = 0

    async def shown(self, event: Mapping[str, Any]) -> None:
        """One more unfinished picture; one that cannot be read is passed over."""
        self._shown = min(self._shown + 1, self._wanted)
        self._listener.progress(self._shown, self._wanted + 1)
        with contextlib.suppress(ProviderError):
            data = await bytes_of(event.get("b64_json"))
            if media_type := media_type_of(data):
                self._listener.preview(data, media_type)


async def completed(answer: HttpStream, watched: Watched) -> dict[str, Any]:
    """The event that holds the finished picture. An unreadable one is passed over: the picture may still come.

    Raises:
        ProviderError: the stream told an error; BROKEN_ANSWER or UNKNOWN_OUTCOME when it ended without the picture.
    """
    unreadable = False
    async with contextlib.aclosing(sse.events(answer.parts)) as events:
        async for event in events:
            try:
                told = await json_of(event.data)
            except ProviderError:
                unreadable = unreadable or event.data.strip() != b"[DONE]"
                continue
            if told.get("error") or "error" in (event.name, told.get("type")):
                raise late_error(told.get("error") or told, answer.headers)
            kind = str(told.get("type", event.name))
            if kind.endswith(".completed"):
                return told
            if kind.endswith(".partial_image"):
                await watched.shown(told)
    if unreadable:
        raise broken("the stream cannot be read")
    raise ProviderError(
        ErrorKind.UNKNOWN_OUTCOME,
        "the stream ended before the picture",
        provider_request_id=request_id_of(answer.headers),
    )
