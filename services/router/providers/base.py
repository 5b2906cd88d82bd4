"""The port every provider of pictures stands behind.

An adapter is one file: what it can do (`Capabilities`, data), how a call is made (`submit`), and how its vendor's
errors read as `ProviderError`. An asynchronous vendor adds `resume` (poll by the vendor's id) and, where it can,
`cancel`. Everything else stands around adapters: limits, breakers, spans, retries, fallback, storage.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from pydantic import SecretStr

from services.router.providers.errors import ErrorKind, NothingToCheckError, ProviderError
from services.router.providers.options import OptionRule
from services.router.providers.rates import RateHint
from services.router.providers.webhooks import CallBack, CallBackRefusedError


@dataclass(frozen=True)
class Capabilities:
    """What an adapter can do, as data: planning, fallback and contract suite read it, and nobody asks for a class."""

    operations: frozenset[str]
    """Operations of the contract (`TEXT_TO_IMAGE`, …)."""
    max_count: int
    """Pictures one call can draw; a job that wants more is served by several calls."""
    seed: bool = False
    negative_prompt: bool = False
    steps: bool = False
    guidance: bool = False
    scheduler: bool = False
    transparent_background: bool = False
    quality: bool = False
    strength: bool = False
    mask: bool = False
    """Whether EDIT takes a mask; INPAINT always does."""
    max_images: int = 0
    """Source images one call takes; 0 where every operation starts from text."""
    controls: frozenset[str] = frozenset()
    """Kinds of `Control` it takes (`structure`, `sketch`, `style`, `canny`, `depth`, `pose`)."""
    loras: bool = False
    """Whether fine-tunes can be laid over its models; each route lists which."""
    upscale_factors: tuple[int, ...] = ()
    """Factors that UPSCALE takes, the default first."""
    formats: frozenset[str] = frozenset({"png"})
    """Formats it can be asked for."""
    replay_safe: bool = False
    """Whether sending the same attempt twice neither charges twice nor harms: an own engine, or a vendor that knows our
    key. Only then may an attempt with an unknown outcome be sent again."""
    resumable: bool = False
    """Whether a request can be taken up by its id after a crash (`resume`)."""
    cancelable: bool = False
    """Whether a request can be called off by its id (`cancel`). Canceling the task of `submit` always stops waiting."""
    progress: bool = False
    """Whether it tells steps while drawing."""
    previews: bool = False
    """Whether it shows unfinished pictures while drawing."""
    webhooks: bool = False
    """Whether it can tell the end of a request by calling us."""
    options: Mapping[str, OptionRule] = field(default_factory=dict)
    """Keys of `provider_options` it takes. Never any that set safety, count, price or URLs."""


NO_KEY = SecretStr("")


@dataclass(frozen=True)
class Account:
    """One account at one provider, as the catalog states it."""

    provider: str
    """The provider's id in the catalog."""
    base_url: str = ""
    """Where its API is, up to and with the version; empty: the vendor's own."""
    api_key: SecretStr = NO_KEY
    """Empty where the server asks for none."""
    variant: str = ""
    """Which of the adapter's dialects or surfaces it speaks; empty: the adapter's default."""
    region: str = ""
    name: str = "default"
    """The account's name in the catalog."""
    secrets: Mapping[str, SecretStr] = field(default_factory=dict)
    """Further secrets by the name that the adapter documents (`client_secret`, `session_token`, `webhook`, …)."""
    settings: Mapping[str, str] = field(default_factory=dict)
    """What else the adapter has to know and is no secret (`project`, `api_version`, …), as its docstring lists."""

    def secret(self, name: str) -> str:
        """A further secret in clear; empty when there is none."""
        return self.secrets.get(name, NO_KEY).get_secret_value()


@dataclass(frozen=True)
class InputImage:
    """An image the call starts from."""

    data: bytes
    media_type: str


@dataclass(frozen=True)
class ControlImage:
    """A guide for the drawing."""

    kind: str
    """One of `Capabilities.controls`."""
    image: InputImage
    scale: float | None = None
    """How strongly it binds, 0 to 2; None: the provider's default."""


@dataclass(frozen=True)
class Lora:
    """A fine-tune laid over the model."""

    lora_id: str
    """As the route's catalog entry lists it."""
    scale: float | None = None
    """How strongly it shows, -2 to 2; None: the provider's default."""


@dataclass(frozen=True)
class Margins:
    """How many pixels OUTPAINT adds at each side."""

    left: int = 0
    top: int = 0
    right: int = 0
    bottom: int = 0


def _go_ahead() -> None:
    """Nothing stands against sending."""


@dataclass(frozen=True)
class ProviderCall:
    """One request to a provider, with everything resolved: adapters look nothing up."""

    attempt_id: str
    """Unique per attempt; adapters send it wherever the vendor takes a client's id or tag."""
    tenant: str
    model: str
    """The provider's own name of the model."""
    prompt: str
    timeout: float
    """Seconds the whole call may take."""
    model_id: str = ""
    """The catalog's name of it; what breakers go by."""
    operation: str = "TEXT_TO_IMAGE"
    model_version: str = ""
    negative_prompt: str = ""
    width: int = 0
    """Pixels; 0 with `height` 0 = the model's default size, or the first image's where there is one."""
    height: int = 0
    count: int = 1
    seed: int | None = None
    """Of the first picture of this call; the next ones have seed + 1, seed + 2, … (mod 2³²)."""
    steps: int | None = None
    guidance: float | None = None
    scheduler: str = ""
    style: str = ""
    output_format: str = ""
    """`png`, `jpeg` or `webp`; empty = the provider's default."""
    compression: int = 0
    """1 to 100 for `jpeg` and `webp`; 0 = the provider's default."""
    quality: str = ""
    """The vendor's own word for how much effort to spend, from the catalog."""
    transparent_background: bool = False
    user: str = ""
    """Opaque id of the end user, for vendors that ask for one."""
    batch: bool = False
    """Whether the job is in the BATCH lane: nobody waits for it."""
    previews: bool = False
    """Whether unfinished pictures are wanted, where that costs the provider something."""
    options: Mapping[str, object] = field(default_factory=dict)
    """This provider's `provider_options`, checked against `Capabilities.options`."""
    images: tuple[InputImage, ...] = ()
    mask: InputImage | None = None
    """White = change, of the first image's size; adapters convert (see `retouch`)."""
    strength: float | None = None
    """How far to leave the first image, 0 (keep) to 1 (ignore)."""
    controls: tuple[ControlImage, ...] = ()
    loras: tuple[Lora, ...] = ()
    margins: Margins = Margins()
    """Only OUTPAINT; at least one is above 0."""
    upscale_factor: int = 0
    """Only UPSCALE; 0 = the provider's default."""
    callback_url: str = ""
    """Where the vendor may tell the end (`Capabilities.webhooks`); unguessable, bound to this attempt. Empty: poll."""
    account: str = ""
    """The account that took the order, when it is taken up again; empty: not known, or not yet."""
    before_sending: Callable[[], None] = _go_ahead
    """Right before the request that orders, after every wait and upload: raises when that must not go out any more."""


@dataclass(frozen=True)
class ProviderImage:
    """One picture, as it came."""

    data: bytes
    media_type: str
    """By its first bytes, not by what the vendor claims."""
    seed: int | None = None
    revised_prompt: str = ""


@dataclass(frozen=True)
class ProviderResult:
    """A provider's answer. It may hold fewer pictures than were asked for, never more."""

    images: tuple[ProviderImage, ...]
    provider_request_id: str = ""
    model_version: str = ""
    """The version that answered, where the provider says."""
    cost_micros: int | None = None
    """What the provider says it charges, in micros of USD; None = see the price book."""
    usage: Mapping[str, int] = field(default_factory=dict)
    """Counted units the provider states (`milliseconds`, `input_tokens`, …), for prices by unit; see `pricing`."""
    rate: RateHint | None = None
    """What is left of the account's limits, where the answer said so."""
    places: tuple[int, ...] | None = None
    """Which of those asked for came, from 0, where a filter kept the others back. None: the first, and no refusal."""


class Listener(Protocol):
    """Hears of a call while it runs."""

    async def accepted(self, provider_request_id: str) -> None:
        """The provider has taken the request under this id. Returns once the id is stored."""

    def chosen(self, account: str) -> None:
        """The order goes to this account of the provider's."""

    def progress(self, step: int, steps: int) -> None:
        """The provider has done `step` of `steps` steps. Never blocks."""

    def preview(self, data: bytes, media_type: str) -> None:
        """An unfinished picture. Never blocks; shown only where the tenant's policy allows unjudged pictures."""

    def woken(self) -> Awaitable[None]:
        """Ends when the vendor has called us about this attempt; a poll loop then looks at once. May never end."""


class Provider(ABC):
    """A source of pictures. Adapters and the wrappers around them look alike."""

    name: str
    """Its id in the catalog."""

    @property
    @abstractmethod
    def capabilities(self) -> Capabilities:
        """What it can do."""

    @abstractmethod
    async def submit(self, call: ProviderCall, listener: Listener) -> ProviderResult:
        """Draw. Canceling the task stops waiting, and the drawing where the vendor allows that.

        Raises:
            ProviderError: in every case of failure; UNKNOWN_OUTCOME when the request may have been taken.
        """

    async def resume(self, call: ProviderCall, provider_request_id: str, listener: Listener) -> ProviderResult:
        """Take up a request that was accepted under this id. Only with `Capabilities.resumable`."""
        raise ProviderError(ErrorKind.UNKNOWN_OUTCOME, f"{self.name} cannot take up a request again")

    def order_id(self, attempt_id: str) -> str:
        """The id that an order for this attempt will have there, where we choose it; empty: the provider does."""
        return ""

    async def cancel(self, provider_request_id: str) -> bool:
        """Call off a request by its id; False when that was too late to cost nothing. Only with `cancelable`."""
        raise ProviderError(ErrorKind.BAD_REQUEST, f"{self.name} cannot call off a request")

    async def check(self) -> str:
        """One cheap authenticated call that draws nothing; what it told, for people (`12.50 credits left`).

        Raises:
            ProviderError: as `submit` would; NothingToCheckError when the vendor has no such call.
        """
        raise NothingToCheckError(self.name)

    async def verify(self, call_back: CallBack) -> str:
        """The provider's request id that a call back is about. Only with `Capabilities.webhooks`.

        Raises:
            CallBackRefusedError: it is not to be believed.
        """
        raise CallBackRefusedError(f"{self.name} calls nobody back")

    def at(self, account: str) -> Provider:
        """The same provider as one of its accounts, for what concerns an order placed there."""
        return self

    async def close(self) -> None:  # noqa: B027 - most adapters hold nothing
        """Free what the provider holds. May be repeated."""
