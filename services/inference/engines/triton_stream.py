"""The answers to one question that a model inside Triton was asked: a stream that is read to its end.

Triton 2.51 never forgets a request whose stream was canceled while its last answer was being written, and never unloads
a model that has such a request. So nobody here breaks a stream off who can wait for its end: who leaves a drawing asks
the model to stop it, and the stream then ends by itself.
"""

from __future__ import annotations

import asyncio
from typing import Any

import grpc


class Stream:
    """What `tritonclient` calls a response iterator, with one reader."""

    def __init__(self, answers: Any) -> None:
        self._answers = answers
        self._coming: asyncio.Future[Any] | None = None

    @property
    def coming(self) -> asyncio.Future[Any]:
        """The next answer, or None at the end. Wait for it and never cancel it: gRPC would cancel the stream."""
        if self._coming is None:
            self._coming = asyncio.ensure_future(_next_or_none(self._answers))
        return self._coming

    def take(self) -> tuple[Any, Any] | None:
        """The answer that came: a result and an error, one of them None. What gRPC raised instead is raised here."""
        come, self._coming = self.coming, None
        answer: tuple[Any, Any] | None = come.result()
        return answer

    async def read(self) -> tuple[Any, Any] | None:
        """Waits for the next answer and takes it."""
        await asyncio.wait({self.coming})
        return self.take()

    async def end(self, seconds: float) -> None:
        """Reads on to the end, and breaks the stream off when that does not come in time."""
        try:
            async with asyncio.timeout(seconds):
                while await self.read() is not None:
                    pass
        except (TimeoutError, grpc.RpcError):  # nobody wants to know any more
            pass
        finally:
            self._answers.cancel()


async def _next_or_none(answers: Any) -> Any:
    return await anext(answers, None)
