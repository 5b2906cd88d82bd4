"""What ComfyUI answers: where an order stands, what became of it, and how it fails."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import urlencode

from services.router.providers.answers import broken, kind_of_status, object_of, retry_after
from services.router.providers.errors import ErrorKind, ProviderError
from services.router.providers.http import HttpAnswer, HttpRequest

Body = dict[str, Any]

PASSING = frozenset({"OutOfMemoryError", "AcceleratorError", "MemoryError", "OSError", "InterruptProcessingException"})
"""Exceptions of nodes, without their module, after which another try may do better."""


class Question:
    """Asks in turn whether an order is in the queue and whether it is in the history."""

    def __init__(self, order_id: str, get: Callable[[str, float], HttpRequest]) -> None:
        """`get` makes the request for a path, given the seconds it may take."""
        self._order_id = order_id
        self._get = get
        self._paths = itertools.cycle(("queue", f"history/{order_id}"))
        self._queued = True

    def ask(self, timeout: float) -> HttpRequest:
        """The next request."""
        return self._get(next(self._paths), timeout)

    def read(self, answer: HttpAnswer) -> Body | None:
        """The history's entry of an order that is drawn; None while it is on its way.

        Raises:
            ProviderError: it failed, or the server knows nothing of it: OVERLOADED, since it can be drawn again.
        """
        if answer.status != 200:
            message = f"its poll was answered {answer.status}"
            raise ProviderError(ErrorKind.UNKNOWN_OUTCOME, message, provider_request_id=self._order_id)
        told = object_of(answer.body)
        if "queue_running" in told:
            self._queued = self._order_id in {*ids(told["queue_running"]), *ids(told.get("queue_pending"))}
            return None
        entry = told.get(self._order_id)
        if entry is None and not self._queued:
            message = "the server knows nothing of the order"
            raise ProviderError(ErrorKind.OVERLOADED, message, provider_request_id=self._order_id)
        return self._finished(entry) if isinstance(entry, dict) else None

    def _finished(self, entry: Body) -> Body:
        for name, told in messages(entry):
            if name == "execution_interrupted":
                raise ProviderError(
                    ErrorKind.OVERLOADED, "the drawing was interrupted", provider_request_id=self._order_id
                )
            if name == "execution_error":
                exception = str(told.get("exception_type")).rpartition(".")[2]
                kind = ErrorKind.OVERLOADED if exception in PASSING else ErrorKind.BROKEN_ANSWER
                raise ProviderError(kind, "a node of the workflow failed", provider_request_id=self._order_id)
        return entry


def ids(listed: object) -> tuple[str, ...]:
    """The orders of one of the queue's lists, whose entries are `[number, id, …]`."""
    items = listed if isinstance(listed, list) else []
    return tuple(str(item[1]) for item in items if isinstance(item, list) and len(item) > 1)


def messages(entry: Body) -> Iterator[tuple[str, Body]]:
    """What happened to an order, in its order: name and what is told with it."""
    status = entry.get("status")
    listed = status.get("messages") if isinstance(status, dict) else None
    for item in listed if isinstance(listed, list) else ():
        if isinstance(item, list) and len(item) == 2 and isinstance(item[1], dict):
            yield str(item[0]), item[1]


def succeeded(entry: object) -> bool:
    """Whether an entry of the history, where there is one, is of an order that was drawn to its end."""
    return isinstance(entry, dict) and any(name == "execution_success" for name, _ in messages(entry))


def picture_at(entry: Body, node: str) -> str:
    """The query by which the node's first picture is fetched.

    Raises:
        ProviderError: BROKEN_ANSWER when it has none.
    """
    with contextlib.suppress(KeyError, TypeError, IndexError):
        image = entry["outputs"][node]["images"][0]
        return urlencode({name: image[name] for name in ("filename", "subfolder", "type")})
    raise broken("the answer holds no picture")


def seed_at(entry: Body, slot: str) -> int | None:
    """The value that an order's graph has in a slot (`node.input`), if it is a whole number."""
    node, _, field = slot.partition(".")
    with contextlib.suppress(KeyError, TypeError, IndexError):
        value = entry["prompt"][2][node]["inputs"][field]
        return value if isinstance(value, int) else None
    return None


def usage_of(entry: Body) -> dict[str, int]:
    """How long it was drawn."""
    at = {name: told.get("timestamp") for name, told in messages(entry)}
    start, end = at.get("execution_start"), at.get("execution_success")
    return {"milliseconds": end - start} if isinstance(start, int) and isinstance(end, int) and end >= start else {}


def error_of(answer: HttpAnswer) -> ProviderError:
    """The error that an answer of another status than 200 is; a bad graph's text may hold the prompt and stays out."""
    return ProviderError(
        kind_of_status(answer.status),
        f"the provider answered {answer.status}",
        retry_after=retry_after(answer.headers),
        status=answer.status,
    )
