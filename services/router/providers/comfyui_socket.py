"""What ComfyUI tells while it draws, over its WebSocket: steps of the sampler, and unfinished pictures.

Previews come as bytes: kind of event, picture's format, both 4 bytes big-endian, and the picture. The server makes them
when it was started with `--preview-method`. Source: server.py of Comfy-Org/ComfyUI.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import struct
from collections.abc import AsyncIterator

from services.router.providers.base import Listener
from services.router.providers.http import HttpError, HttpRequest, Sockets

MOST = 16
"""Sockets at once; further orders are drawn without a word."""
PREVIEW = 1
FORMATS = {1: "image/jpeg", 2: "image/png"}
HEADER = struct.Struct(">II")


class Telling:
    """Listens while orders are drawn."""

    def __init__(self, sockets: Sockets | None) -> None:
        """None: nobody listens."""
        self._sockets = sockets
        self._open = 0

    @contextlib.asynccontextmanager
    async def about(self, order_id: str, request: HttpRequest, listener: Listener) -> AsyncIterator[None]:
        """Passes on what `request` tells of the order for as long as this lasts."""
        if self._sockets is None or self._open >= MOST:
            yield
            return
        self._open += 1
        heard = asyncio.create_task(_follow(self._sockets, order_id, request, listener))
        try:
            yield
        finally:
            heard.cancel()
            await asyncio.gather(heard, return_exceptions=True)
            self._open -= 1


async def _follow(sockets: Sockets, order_id: str, request: HttpRequest, listener: Listener) -> None:
    with contextlib.suppress(HttpError):  # the order is asked for anyway
        async with sockets.listen(request) as messages:
            async for message in messages:
                if isinstance(message, bytes):
                    _show(message, listener)
                else:
                    _tell(message, order_id, listener)


def _show(message: bytes, listener: Listener) -> None:
    if len(message) <= HEADER.size:
        return
    event, kind = HEADER.unpack_from(message)
    if event == PREVIEW and kind in FORMATS:
        listener.preview(message[HEADER.size :], FORMATS[kind])


def _tell(message: str, order_id: str, listener: Listener) -> None:
    with contextlib.suppress(ValueError, KeyError, TypeError):
        told = json.loads(message)
        data = told["data"]
        if told["type"] == "progress" and data.get("prompt_id") == order_id:
            listener.progress(int(data["value"]), int(data["max"]))
