"""What the contract suite knows of an adapter: how to stand up its vendor's fake and how to provoke each scenario.

A new provider adds one `Harness` in a file of its own and one line to `harness.HARNESSES`. A cell of the printed table
that it cannot fill is a reason in `absent`, never an absence: rows are operations, columns are `COLUMNS`.
"""

from __future__ import annotations

import asyncio
import contextlib
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field

from services.router.providers.base import ControlImage, InputImage, Margins, Provider, ProviderCall
from services.router.providers.errors import ErrorKind
from services.router.providers.http import PooledHttpClient
from services.router.providers.webhooks import CallBack
from tests.router.fakes.pictures import draw
from tests.router.fakes.vendor import VendorFake

SILENT = 0.7
"""Seconds that a call waits for a fake that never answers: long enough to get a connection on a busy machine."""
COLUMNS = ("request shape", "result", "errors", "refusal", "resume", "cancel", "webhook")
SOURCE = InputImage(draw(64, 4), "image/png")
"""64x64."""
MASK = InputImage(draw(64, 4), "image/png")
"""64x64; its polarity is looked at in each vendor's own tests."""


@dataclass(frozen=True)
class Provoked:
    """A prompt that makes the fake fail, and the class that must come of it."""

    prompt: str
    kind: ErrorKind
    retry_after: float | None = None
    timeout: float = 20.0


@dataclass
class Heard:
    """A listener that remembers."""

    ids: list[str] = field(default_factory=list)
    steps: list[tuple[int, int]] = field(default_factory=list)
    previews: list[bytes] = field(default_factory=list)
    accounts: list[str] = field(default_factory=list)
    call_back: asyncio.Event = field(default_factory=asyncio.Event)
    taken: asyncio.Event = field(default_factory=asyncio.Event)
    patience: float = 0.01
    """Seconds after which a poll loop goes on without a call back: tests need not wait out a vendor's pace."""

    async def accepted(self, provider_request_id: str) -> None:
        self.ids.append(provider_request_id)
        self.taken.set()

    def chosen(self, account: str) -> None:
        self.accounts.append(account)

    def progress(self, step: int, steps: int) -> None:
        self.steps.append((step, steps))

    def preview(self, data: bytes, media_type: str) -> None:
        self.previews.append(data)

    async def woken(self) -> None:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self.call_back.wait(), self.patience)
        self.call_back.clear()


class Harness(ABC):
    """One adapter (in one of its variants) against its vendor's fake."""

    model = "model-1"
    models: Mapping[str, str] = {}
    """The vendor's model by operation, where an operation needs another than `model`."""
    size = (512, 256)
    """A size that the vendor draws."""
    fields: Mapping[str, object] = {}
    """Changes to the full call of every operation, such as `quality`."""
    changes: Mapping[str, Mapping[str, object]] = {}
    """Changes to the full call by operation, such as `strength`."""
    failures: tuple[Provoked, ...] = ()
    stall = ""
    """A prompt that is never answered; for asynchronous vendors `stall`."""
    absent: Mapping[str, str] = {}
    """Why a cell stays empty, by column, or by `OPERATION/column` for a single operation."""
    billed_when_canceled = False
    """Whether the vendor bills an order that is called off while it is drawn."""
    format_unasked = "image/png"
    """What its pictures are."""

    @abstractmethod
    async def start(self) -> Provider:
        """Start the fake; the adapter that talks to it."""

    @abstractmethod
    async def stop_fake(self) -> None:
        """Stop the fake alone; nobody listens any more."""

    @abstractmethod
    async def stop(self) -> None:
        """Stop both."""

    @abstractmethod
    async def until_asked(self, prompt: str) -> None:
        """Wait until the fake has the request."""

    @abstractmethod
    def times_asked(self, prompt: str) -> int:
        """How often the fake was asked to draw this."""

    @abstractmethod
    def fields_sent(self) -> Mapping[str, object]:
        """The last request, as the fake read it."""

    @property
    @abstractmethod
    def expected_fields(self) -> Mapping[str, object]:
        """What a TEXT_TO_IMAGE call with every supported field must put on the wire."""

    def expected(self, operation: str) -> Mapping[str, object]:
        """What a call of `operation` with every supported field must put on the wire."""
        assert operation == "TEXT_TO_IMAGE", f"say what {operation} puts on the wire"
        return self.expected_fields

    async def release(self, prompt: str) -> None:
        """Let the vendor finish what stalls."""
        raise NotImplementedError

    def was_canceled(self, provider_request_id: str) -> bool:
        """Whether the fake was told to call it off."""
        raise NotImplementedError

    async def call_backs(self, provider_request_id: str) -> tuple[CallBack, CallBack]:
        """A call back of the vendor about this request, and the same with a signature that does not fit."""
        raise NotImplementedError


class VendorHarness(Harness):
    """A harness over a `VendorFake`; says only which fake and how the adapter is opened."""

    fake_type: type[VendorFake]
    fake: VendorFake

    def __init__(self) -> None:
        self.fake = self.fake_type()
        self.http = PooledHttpClient()

    @abstractmethod
    def open(self) -> Provider:
        """The adapter, pointed at `self.fake.origin` with `self.fake.key`, over `self.http`."""

    async def start(self) -> Provider:
        await self.fake.start()
        return self.open()

    async def stop(self) -> None:
        await self.http.close()
        await self.fake.stop()

    async def stop_fake(self) -> None:
        await self.fake.stop()

    async def until_asked(self, prompt: str) -> None:
        await self.fake.until_asked(prompt)

    def times_asked(self, prompt: str) -> int:
        return self.fake.posts[prompt]

    def fields_sent(self) -> Mapping[str, object]:
        return self.fake.orders[-1].fields

    async def release(self, prompt: str) -> None:
        await self.fake.release(prompt)

    def was_canceled(self, provider_request_id: str) -> bool:
        return self.fake.canceled(provider_request_id)


def full_call(harness: Harness, provider: Provider, prompt: str, operation: str, **changes: object) -> ProviderCall:
    """A call of an operation with every field that the adapter supports."""
    can = provider.capabilities
    drawn = operation not in ("UPSCALE", "REMOVE_BACKGROUND")
    fields: dict[str, object] = {
        "attempt_id": "att_1",
        "tenant": "acme",
        "model": harness.models.get(operation, harness.model),
        "operation": operation,
        "prompt": prompt,
        "timeout": 20.0,
        "user": "user-1",
        "seed": 7 if can.seed and drawn else None,
        "negative_prompt": "blur" if can.negative_prompt and drawn else "",
        "steps": 12 if can.steps and drawn else None,
        "guidance": 4.5 if can.guidance and drawn else None,
        "scheduler": "ddim" if can.scheduler and drawn else "",
        "output_format": "png" if len(can.formats) > 1 else "",
        "transparent_background": can.transparent_background and drawn,
        **_sources(provider, operation),
        **(_size(harness) if operation in ("TEXT_TO_IMAGE", "CONTROL") else {}),
        **harness.fields,
        **harness.changes.get(operation, {}),
        **changes,
    }
    return ProviderCall(**fields)  # type: ignore[arg-type]


def _size(harness: Harness) -> dict[str, object]:
    return {"width": harness.size[0], "height": harness.size[1]}


def _sources(provider: Provider, operation: str) -> dict[str, object]:
    can = provider.capabilities
    if operation == "TEXT_TO_IMAGE":
        return {}
    if operation == "CONTROL":
        return {"controls": (ControlImage(sorted(can.controls)[0], SOURCE, 0.5),)}
    sources: dict[str, object] = {"images": (SOURCE,)}
    if operation == "INPAINT" or (operation == "EDIT" and can.mask):
        sources["mask"] = MASK
    if operation == "OUTPAINT":
        sources["margins"] = Margins(left=32, right=32)
    if operation == "UPSCALE":
        sources["upscale_factor"] = can.upscale_factors[-1] if can.upscale_factors else 0
    if can.strength and operation in ("IMAGE_TO_IMAGE", "INPAINT"):
        sources["strength"] = 0.6
    return sources
