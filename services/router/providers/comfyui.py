"""ComfyUI on a server of one's own: vetted workflows, queued under an id that we choose, asked for until drawn.

The order's id is derived from the attempt's, so that an order whose answer was lost can be asked about: it is in the
queue, in the history, or it never arrived (ComfyUI forgets both when it starts anew). The queue is read first and the
history after it, because an order leaves the one and enters the other at once.

ComfyUI has no keys. With a key, it is sent as a bearer token, for a proxy that guards the server. Nobody says which
version of a model drew; pin by the file's name. Sources: server.py and execution.py of Comfy-Org/ComfyUI, collected
2026-11-20.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import secrets
import uuid
from collections.abc import Mapping
from typing import Any

from services.router.providers.answers import (
    asking,
    broken,
    download,
    json_of,
    object_of,
    ordering,
    picture_of,
    preparing,
)
from services.router.providers.base import (
    Account,
    Capabilities,
    InputImage,
    Listener,
    Provider,
    ProviderCall,
    ProviderResult,
)
from services.router.providers.comfyui_answers import (
    Question,
    error_of,
    ids,
    picture_at,
    seed_at,
    succeeded,
    usage_of,
)
from services.router.providers.comfyui_graphs import (
    FACTORS,
    Nodes,
    capabilities_of_workflows,
    values_of,
    workflow_for,
)
from services.router.providers.comfyui_socket import Telling
from services.router.providers.errors import ErrorKind, ProviderError
from services.router.providers.fitting import refuse_unfit
from services.router.providers.http import HttpClient, HttpRequest, Part, Sockets
from services.router.providers.padding import Shaped, shaped
from services.router.providers.polling import Order, Pace, poll
from services.router.providers.retouch import size_of

ORDERS = uuid.UUID("5a5f9d0e-6e35-4a0f-9a43-0c3d5a3c1f1b")
"""Namespace of the ids that are made from attempts' ids."""
SUBFOLDER = "imagemesh"
SHORT_TIMEOUT = 15.0
ORDER_TIMEOUT = 30.0
"""Seconds until the answer to an order counts as lost; it is queued, not drawn, until then."""
PACE = Pace(0.15, 1.0)

Body = dict[str, Any]


def capabilities(variant: str) -> Capabilities:
    """What the workflows can do.

    Raises:
        KeyError: there is no such variant.
    """
    return {"": capabilities_of_workflows()}[variant]


def order_id_of(attempt_id: str) -> str:
    """The id under which an attempt is queued."""
    return str(uuid.uuid5(ORDERS, attempt_id))


class ComfyUi(Provider):
    """The adapter."""

    def __init__(self, account: Account, http: HttpClient, sockets: Sockets | None = None, pace: Pace = PACE) -> None:
        """`account.base_url` without path, or with one that ends before `/prompt`. Without sockets nothing is told
        while it draws."""
        self._telling = Telling(sockets)
        self.name = account.provider
        self._base = account.base_url.rstrip("/")
        self._http = http
        self._pace = pace
        key = account.api_key.get_secret_value()
        self._headers: Mapping[str, str] = {"Authorization": f"Bearer {key}"} if key else {}

    @property
    def capabilities(self) -> Capabilities:
        """Those of the workflows."""
        return capabilities_of_workflows()

    async def submit(self, call: ProviderCall, listener: Listener) -> ProviderResult:
        """Bring the sources there, queue the graph, wait."""
        ends = asyncio.get_running_loop().time() + call.timeout
        refuse_unfit(call, self.capabilities)
        order = Shaped(call) if call.operation == "UPSCALE" else await shaped(call)
        seed = secrets.randbelow(2**32) if call.seed is None else call.seed
        order_id, nodes = order_id_of(call.attempt_id), await self._graph(order.call, seed, ends)
        body = {"prompt": nodes, "prompt_id": order_id, "client_id": order_id}
        call.before_sending()
        async with self._telling.about(order_id, self._socket(order_id), listener):
            order_id = await self._place(order_id, body, ends)
            await listener.accepted(order_id)
            return await self._wait(order, order_id, listener, ends)

    async def resume(self, call: ProviderCall, provider_request_id: str, listener: Listener) -> ProviderResult:
        """Ask on."""
        ends = asyncio.get_running_loop().time() + call.timeout
        order = Shaped(call) if call.operation == "UPSCALE" else await shaped(call)
        async with self._telling.about(provider_request_id, self._socket(provider_request_id), listener):
            return await self._wait(order, provider_request_id, listener, ends)

    def order_id(self, attempt_id: str) -> str:
        """See `order_id_of`."""
        return order_id_of(attempt_id)

    async def cancel(self, provider_request_id: str) -> bool:
        """Out of the queue; the drawing is interrupted only when it is this order's."""
        await self._tell("queue", {"delete": [provider_request_id]})
        running = (await self._asked("queue")).get("queue_running")
        if provider_request_id in ids(running):
            # Servers since 2025 look at the id themselves; older ones stop what runs, which was ours a moment ago.
            await self._tell("interrupt", {"prompt_id": provider_request_id})
        return not succeeded((await self._asked(f"history/{provider_request_id}")).get(provider_request_id))

    async def check(self) -> str:
        """Its version and how many orders wait."""
        system = (await self._asked("system_stats")).get("system")
        told = await self._asked("queue")
        version = system.get("comfyui_version") if isinstance(system, dict) else None
        return f"ComfyUI {version}, {len(ids(told.get('queue_pending')))} orders waiting"

    async def _graph(self, call: ProviderCall, seed: int, ends: float) -> Nodes:
        workflow = workflow_for(call.operation)
        values: dict[str, object] = {"model": call.model}
        if call.operation == "UPSCALE":
            factor = call.upscale_factor or FACTORS[0]
            width, height = await size_of(call.images[0])
            values.update(width=width * factor, height=height * factor)
        else:
            values = values_of(call, seed)
        if call.images:
            values["image"] = await self._uploaded(call.images[0], ends)
        if call.mask is not None:
            values["mask"] = await self._uploaded(call.mask, ends)
        try:
            return workflow.filled(values)
        except KeyError as error:
            raise ProviderError(ErrorKind.BAD_REQUEST, f"its workflow has no slot for {error.args[0]}") from error

    async def _uploaded(self, image: InputImage, ends: float) -> str:
        """The picture's name there: by its content, so that the same one lies there once."""
        digest = (await asyncio.to_thread(hashlib.sha256, image.data)).hexdigest()
        name = f"{digest[:40]}.{image.media_type.removeprefix('image/')}"
        form = (
            Part("image", image.data, name, image.media_type),
            Part("type", "temp"),
            Part("subfolder", SUBFOLDER),
            Part("overwrite", "true"),
        )
        left = max(ends - asyncio.get_running_loop().time(), 0.0)
        request = HttpRequest("POST", f"{self._base}/upload/image", left, self._headers, form=form)
        with preparing():
            answer = await self._http.send(request)
            if answer.status != 200:
                raise error_of(answer)
            told = object_of(answer.body)
        return f"{told.get('subfolder')}/{told.get('name')} [{told.get('type')}]"

    async def _place(self, order_id: str, body: Body, ends: float) -> str:
        """Queues the order; its id. Where the answer is lost, waiting will tell whether it arrived."""
        left = max(ends - asyncio.get_running_loop().time(), 0.0)
        try:
            with ordering():
                answer = await self._http.send(self._post("prompt", body, min(left, ORDER_TIMEOUT)))
        except ProviderError as error:
            if error.kind is not ErrorKind.UNKNOWN_OUTCOME:
                raise
            return order_id
        if answer.status != 200:
            failure = error_of(answer)
            if failure.kind is ErrorKind.UNKNOWN_OUTCOME:
                return order_id
            raise failure
        told = (await json_of(answer.body)).get("prompt_id")
        if not isinstance(told, str) or not told:
            raise broken("the answer names no order")
        return told  # servers older than 2025-08 choose the id themselves

    async def _wait(self, order: Shaped, order_id: str, listener: Listener, ends: float) -> ProviderResult:
        loop = asyncio.get_running_loop()
        question = Question(order_id, self._get)
        waiting = Order(order_id, question.ask, self._pace)
        entry = await poll(self._http, waiting, question.read, ends - loop.time(), listener)
        call = order.call
        workflow = workflow_for(call.operation)
        image = picture_at(entry, workflow.result)
        data = await download(self._http, f"{self._base}/view?{image}", ends - loop.time(), self._headers)
        picture = picture_of(await order.finished(data), seed_at(entry, workflow.slots.get("seed", "")))
        return ProviderResult((picture,), order_id, call.model_version, usage=usage_of(entry))

    def _socket(self, order_id: str) -> HttpRequest:
        """Each order is a client of its own, so that nobody else's drawing is told."""
        return self._get(f"ws?clientId={order_id}", SHORT_TIMEOUT)

    def _get(self, path: str, timeout: float) -> HttpRequest:
        return HttpRequest("GET", f"{self._base}/{path}", timeout, self._headers)

    def _post(self, path: str, body: Body, timeout: float) -> HttpRequest:
        headers = {**self._headers, "Content-Type": "application/json"}
        return HttpRequest("POST", f"{self._base}/{path}", timeout, headers, json.dumps(body).encode())

    async def _asked(self, path: str) -> Body:
        with asking():
            answer = await self._http.send(self._get(path, SHORT_TIMEOUT))
        if answer.status != 200:
            raise error_of(answer)
        return await json_of(answer.body)

    async def _tell(self, path: str, body: Body) -> None:
        with asking():
            answer = await self._http.send(self._post(path, body, SHORT_TIMEOUT))
        if answer.status != 200:
            raise error_of(answer)
