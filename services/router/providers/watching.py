"""A wrapper that notices a provider getting worse without failing, and opens its breaker."""

from __future__ import annotations

import hashlib
import time
from collections import OrderedDict
from collections.abc import Callable

import pyvips

from mesh import telemetry
from mesh.errors import InvalidArgument
from mesh.imaging import in_thread, open_image, sniff
from services.router.breaker import BreakerKey, Breakers
from services.router.degradation import Degradation, DegradationConfig, Drawn, Sign
from services.router.providers.base import Listener, Provider, ProviderCall, ProviderImage, ProviderResult
from services.router.providers.errors import ErrorKind, ProviderError, treatment
from services.router.providers.wrappers import Proceed, Wrapper

log = telemetry.logger(__name__)

SMALL = 32 * 1024
"""Bytes below which a picture may be of one colour; a larger one has something on it, whatever its size."""
PER_PIXEL = 0.05
"""The same, in bytes for a pixel."""
FLAT = 1.0
"""Standard deviation of pixel values (0 to 255) up to which a channel counts as one colour."""
SAMPLE = 16 * 1024
"""Bytes at each end of a picture that tell it from others."""
MOST_MODELS = 1_000


class Degradations:
    """What all accounts and models of this worker's providers did lately; opens the breaker of one that got worse."""

    def __init__(self, breakers: Breakers, config: DegradationConfig | None = None) -> None:
        self._breakers = breakers
        self._config = config or DegradationConfig()
        self._of: OrderedDict[BreakerKey, Degradation] = OrderedDict()
        self._found = telemetry.counter("imagemesh.provider.degraded", "{finding}", "Providers that got worse.")

    def of(self, key: BreakerKey) -> Degradation:
        """What is remembered of a provider's model."""
        known = self._of.setdefault(key, Degradation(self._config))
        self._of.move_to_end(key)
        if len(self._of) > MOST_MODELS:
            self._of.popitem(last=False)
        return known

    def note(self, key: BreakerKey, sign: Sign | None) -> None:
        """Acts on a finding, if there is one."""
        if sign is None:
            return
        labels = {"gen_ai.provider.name": key.provider, "gen_ai.request.model": key.model, "imagemesh.sign": sign.value}
        self._found.add(1, labels)
        log.error("provider got worse", provider=key.provider, model=key.model, sign=sign.value)
        self._breakers.trip(key, self._config.rest_s, f"degraded: {sign.value.lower()}")


class Watched(Wrapper):
    """See the module. Who cannot be reached at all did not get worse: the breaker alone looks again after seconds."""

    def __init__(
        self, inner: Provider, degradations: Degradations, clock: Callable[[], float] = time.monotonic
    ) -> None:
        super().__init__(inner)
        self._degradations = degradations
        self._clock = clock

    async def resume(self, call: ProviderCall, provider_request_id: str, listener: Listener) -> ProviderResult:
        """See `Provider.resume`. How long it took is not known here."""
        return await self._inner.resume(call, provider_request_id, listener)

    async def _around(self, call: ProviderCall, proceed: Proceed) -> ProviderResult:
        key, began = BreakerKey(self.name, call.model_id or call.model), self._clock()
        lately = self._degradations.of(key)
        try:
            result = await proceed(call)
        except ProviderError as error:
            if error.kind is not ErrorKind.UNREACHABLE and treatment(error.kind, replay_safe=False).breaks:
                self._degradations.note(key, lately.failed())
            raise
        self._degradations.note(key, lately.answered(self._clock() - began))
        for image in result.images:
            self._degradations.note(key, lately.drew(await _looked_at(call, image)))
        return result


async def _looked_at(call: ProviderCall, image: ProviderImage) -> Drawn:
    ends = image.data[:SAMPLE] + image.data[-SAMPLE:] + len(image.data).to_bytes(8, "big")
    request = hashlib.blake2b(f"{call.seed}\n{call.operation}\n{call.prompt}".encode(), digest_size=16).digest()
    blank = may_be_blank(image.data) and await in_thread(lambda: is_blank(image.data))
    return Drawn(request, hashlib.blake2b(ends, digest_size=16).digest(), blank)


def may_be_blank(data: bytes) -> bool:
    """Whether a picture has so few bytes that it may be of one colour; a PNG's size is read here, it is cheap."""
    if len(data) >= SMALL or sniff(data) != "png":
        return len(data) < SMALL
    width, height = (int.from_bytes(data[at : at + 4], "big") for at in (16, 20))  # IHDR, PNG specification 11.2.2
    return len(data) <= PER_PIXEL * width * height


def is_blank(data: bytes) -> bool:
    """Whether a picture is of one colour; False for what cannot be read (others say so). For worker threads."""
    try:
        opened, info = open_image(data)
        if info.size > PER_PIXEL * info.width * info.height:
            return False
        deviations = opened.stats()
    except (InvalidArgument, pyvips.Error):
        return False
    column, bands = 5, range(1, 1 + min(opened.bands, 3))
    return all(deviations(column, band)[0] <= FLAT for band in bands)
