"""Streamed pictures as OpenAI sends them, in small pieces, and the ways in which a stream fails.

stream_error    an error object within the data, after a first part
stream_refused  the same, from the safety filter
stream_odd      the same, with a code nobody knows
stream_cut      the connection drops after a first part
stream_ends     it ends well after a first part; no picture
stream_stall    nothing comes after a first part
stream_garbled  a part is no JSON; the picture comes
stream_broken   the event of the picture is no JSON
stream_open     the picture comes, and neither `[DONE]` nor the end
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator

from aiohttp import web

from tests.router.fakes.pictures import picture
from tests.router.fakes.vendor import Fields, drop

USAGE = (
    b'{"input_tokens":10,"output_tokens":100,"total_tokens":110,'
    b'"input_tokens_details":{"text_tokens":10,"image_tokens":0}}'
)
PIECE = 100
"""Bytes sent at once, so that events are cut anywhere."""
ERRORS = {
    "stream_error": {"type": "server_error", "code": None, "message": "stub says no"},
    "stream_refused": {"type": "image_generation_user_error", "code": "moderation_blocked", "message": "stub says no"},
    "stream_odd": {"type": "something_new", "code": "something_else", "message": "stub says no"},
}


async def streamed(request: web.Request, serial: Iterator[int], fields: Fields, failure: str) -> web.StreamResponse:
    """The stream."""
    response = web.StreamResponse(
        headers={"Content-Type": "text/event-stream; charset=utf-8", "x-request-id": f"req_{next(serial):08d}"}
    )
    await response.prepare(request)
    kind = "image_edit" if "image[]" in fields else "image_generation"
    for index in range(fields["partial_images"]):
        await _send(response, f"{kind}.partial_image", _picture(serial, partial_image_index=index))
        if failure.startswith("stream_") and not await _goes_on(request, response, failure):
            return response
    finished = _picture(serial, usage=json.loads(USAGE), error=None)
    await _send(response, f"{kind}.completed", finished, cut=60 if failure == "stream_broken" else None)
    if failure == "stream_open":
        await asyncio.Event().wait()
    await response.write(b"data: [DONE]\n\n")
    return response


def _picture(serial: Iterator[int], **fields: object) -> Fields:
    data = picture("tiny").base64(next(serial)).decode()
    about = {"created_at": 1, "size": "1024x1024", "quality": "high", "background": "opaque", "output_format": "png"}
    return {"b64_json": data, **about, **fields}


async def _goes_on(request: web.Request, response: web.StreamResponse, failure: str) -> bool:
    if failure in ERRORS:
        await _send(response, "error", {"error": ERRORS[failure]})
    if failure == "stream_cut":
        drop(request)
    if failure == "stream_stall":
        await asyncio.Event().wait()
    if failure == "stream_garbled":
        await _send(response, "image_generation.partial_image", {"b64_json": "AAAA"}, cut=20)
    return failure in ("stream_garbled", "stream_broken", "stream_open")


async def _send(response: web.StreamResponse, kind: str, data: Fields, cut: int | None = None) -> None:
    text = json.dumps({"type": kind, **data} if kind != "error" else data)[:cut]
    event = f": a comment\r\nevent: {kind}\r\ndata: {text}\r\n\r\n".encode()
    for start in range(0, len(event), PIECE):
        await response.write(event[start : start + PIECE])
