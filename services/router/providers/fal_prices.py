"""What an order at fal cost: the units it billed, times the endpoint's unit price on the vendor's own list."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from decimal import ROUND_CEILING, Decimal, InvalidOperation
from urllib.parse import quote

from services.router.providers.answers import object_of
from services.router.providers.errors import ProviderError
from services.router.providers.http import HttpClient, HttpError, HttpRequest

FRESH_S = 24 * 3600.0
"""How long a price is used without asking again."""
AGAIN_S = 600.0
"""How soon the list is asked again for a price that it did not give."""
TIMEOUT = 5.0
MOST = 256
"""Endpoints whose prices are remembered."""


class Prices:
    """Unit prices by endpoint, read when first needed. Accounts may have prices of their own; the list knows them."""

    def __init__(
        self,
        http: HttpClient,
        platform: str,
        headers: Callable[[], Mapping[str, str]],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._http = http
        self._platform = platform
        self._headers = headers
        self._clock = clock
        self._known: OrderedDict[str, tuple[Decimal | None, float]] = OrderedDict()

    async def cost_micros(self, endpoint: str, units: str) -> int | None:
        """Micros of USD for so many billed units; None where units or price are not told. Fails never."""
        try:
            billed = Decimal(units)
        except InvalidOperation:
            return None
        price = await self._price(endpoint) if billed.is_finite() and billed >= 0 else None
        return None if price is None else int((billed * price * 1_000_000).to_integral_value(ROUND_CEILING))

    async def _price(self, endpoint: str) -> Decimal | None:
        price, until = self._known.get(endpoint, (None, float("-inf")))
        if self._clock() < until:
            return price
        price = await self._read(endpoint)
        self._known[endpoint] = price, self._clock() + (AGAIN_S if price is None else FRESH_S)
        self._known.move_to_end(endpoint)
        while len(self._known) > MOST:
            self._known.popitem(last=False)
        return price

    async def _read(self, endpoint: str) -> Decimal | None:
        url = f"{self._platform}/models/pricing?endpoint_id={quote(endpoint, safe='')}"
        try:
            answer = await self._http.send(HttpRequest("GET", url, TIMEOUT, self._headers()))
            for entry in object_of(answer.body)["prices"]:
                if entry["endpoint_id"] == endpoint and entry["currency"] == "USD":
                    return Decimal(str(entry["unit_price"]))
        except (HttpError, ProviderError, KeyError, TypeError, InvalidOperation):
            return None
        return None
