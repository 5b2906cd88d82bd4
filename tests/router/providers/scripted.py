"""An HTTP client for what no server on loopback can show: other hosts, exact bytes, signed headers."""

from __future__ import annotations

import json
from contextlib import AbstractAsyncContextManager

from services.router.providers.http import HttpAnswer, HttpRequest, HttpStream


class Scripted:
    """Answers from a list and remembers what it was asked. What is not bytes is sent as JSON."""

    def __init__(self, *bodies: object) -> None:
        self._answers = [body if isinstance(body, bytes) else json.dumps(body).encode() for body in bodies]
        self.asked: list[HttpRequest] = []

    async def send(self, request: HttpRequest) -> HttpAnswer:
        self.asked.append(request)
        return HttpAnswer(200, {}, self._answers.pop(0))

    def stream(self, request: HttpRequest) -> AbstractAsyncContextManager[HttpStream]:
        raise NotImplementedError
