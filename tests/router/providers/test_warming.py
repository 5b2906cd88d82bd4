"""A connection is opened before the order needs it, once, and its failure is nobody's."""

from __future__ import annotations

import asyncio

from services.router.providers.http import HttpAnswer, HttpRequest, NotSentError
from services.router.providers.warming import AT_ONCE, FRESH_S, Warmer
from tests.router.rig import Clock

URLS = {"acme": "https://images.example/v1", "twin": "https://images.example/v2", "local": "http://127.0.0.1:9/v1"}


class Http:
    """Remembers what was sent; answers, hangs or fails."""

    def __init__(self) -> None:
        self.sent: list[HttpRequest] = []
        self.hangs = False
        self.fails = False

    async def send(self, request: HttpRequest) -> HttpAnswer:
        self.sent.append(request)
        if self.hangs:
            await asyncio.Event().wait()
        if self.fails:
            raise NotSentError("no connection")
        return HttpAnswer(404, {}, b"")

    def stream(self, request: HttpRequest) -> object:
        raise AssertionError


async def settled(warmer: Warmer) -> None:
    await asyncio.gather(*warmer._tasks)


async def test_a_host_is_warmed_once_while_it_is_fresh_and_no_key_is_sent() -> None:
    http, clock = Http(), Clock()
    warmer = Warmer(http, URLS, clock)  # type: ignore[arg-type]
    for name in ("acme", "acme", "twin", "local", "unknown"):
        warmer.warm(name)
    await settled(warmer)
    assert [(one.method, one.url, dict(one.headers)) for one in http.sent] == [("HEAD", "https://images.example/", {})]
    clock.now += FRESH_S
    warmer.warm("twin")
    await settled(warmer)
    assert len(http.sent) == 2


async def test_a_failure_is_left_to_the_order() -> None:
    http = Http()
    http.fails = True
    warmer = Warmer(http, URLS, Clock())  # type: ignore[arg-type]
    warmer.warm("acme")
    await settled(warmer)


async def test_what_hangs_is_bounded_and_ends_with_the_worker() -> None:
    http = Http()
    http.hangs = True
    urls = {f"p{number}": f"https://host-{number}.example" for number in range(2 * AT_ONCE)}
    warmer = Warmer(http, urls, Clock())  # type: ignore[arg-type]
    for name in urls:
        warmer.warm(name)
    await asyncio.sleep(0)
    assert len(http.sent) == AT_ONCE
    await warmer.close()
    assert not warmer._tasks
