"""What providers charge, as data: six ways to count, each with its source and date.

Prices are decimal strings and computed exactly; an amount becomes whole micros once, at the end of one call's sum, and
then upwards. `worst` answers before the call, `actual` after it from what the provider measured.

    IMAGE       per picture, by size and quality        STEP         per denoising step of a picture
    MEGAPIXEL   per million pixels of a picture         SECOND       per second of the provider's work
    TOKEN       per million tokens, by kind             GPU_SECOND   per second of a GPU
"""

from __future__ import annotations

import datetime
from abc import abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Annotated, Final, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from services.router.money import USD, Money, ceil_micros, parse_decimal
from services.router.specs import Size

TOKENS: Final = 1_000_000
MILLISECONDS: Final = "milliseconds"
"""Name under which an adapter states the time a provider bills, in `Measured`; for prices by SECOND and GPU_SECOND."""
INPUT_TOKENS: Final = "input_tokens"


def _decimal(text: str) -> str:
    parse_decimal(text)
    return text


DecimalText = Annotated[str, AfterValidator(_decimal)]
Table = Mapping[str, DecimalText]
"""Amounts by `WIDTHxHEIGHT/quality`, `WIDTHxHEIGHT`, `*/quality` or `*`; the first of these that is there counts."""

Measured = Mapping[str, int]
"""Counted units as the provider states them: `milliseconds`, `input_tokens`, `output_tokens`, …"""


@dataclass(frozen=True, slots=True)
class Work:
    """One call to a provider, as far as prices look at it. `quality` is the catalog's name for the route's quality."""

    size: Size
    count: int = 1
    steps: int = 0
    quality: str = ""
    prompt_bytes: int = 0


class UnpricedError(ValueError):
    """A price has no entry for a size and quality."""


def entry(table: Table, work: Work) -> Fraction:
    """The amount of a table for this work.

    Raises:
        UnpricedError: none of the keys is there.
    """
    for key in (f"{work.size}/{work.quality}", str(work.size), f"*/{work.quality}", "*"):
        if key in table:
            return parse_decimal(table[key])
    raise UnpricedError(f"no price for {work.size}" + (f" in quality {work.quality}" if work.quality else ""))


class BasePrice(BaseModel):
    """What every price says of itself."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    source: str = Field(min_length=1)
    """Where the price was read."""
    date: datetime.date
    """The day it was read."""

    @abstractmethod
    def worst(self, work: Work) -> Fraction:
        """The most one call may cost, in the currency's unit."""

    def actual(self, work: Work, measured: Measured) -> Fraction:
        """What a call that delivered `work` cost; its worst case where a needed measure is missing."""
        return self.worst(work)

    @abstractmethod
    def lines(self) -> Iterator[tuple[str, str]]:
        """The price's entries for people and the wire: (applies to, amount)."""


class ImagePrice(BasePrice):
    """Per picture, by size and quality."""

    unit: Literal["IMAGE"]
    amounts: Table = Field(min_length=1)

    def worst(self, work: Work) -> Fraction:
        """Pictures × the entry."""
        return work.count * entry(self.amounts, work)

    def lines(self) -> Iterator[tuple[str, str]]:
        """One line per entry."""
        yield from self.amounts.items()


class MegapixelPrice(BasePrice):
    """Per million pixels of each picture."""

    unit: Literal["MEGAPIXEL"]
    amount: DecimalText

    def worst(self, work: Work) -> Fraction:
        """Pictures × pixels / 10^6 × amount."""
        return work.count * Fraction(work.size.pixels, 1_000_000) * parse_decimal(self.amount)

    def lines(self) -> Iterator[tuple[str, str]]:
        """One line."""
        yield "", self.amount


class StepPrice(BasePrice):
    """Per denoising step of each picture."""

    unit: Literal["STEP"]
    amount: DecimalText

    def worst(self, work: Work) -> Fraction:
        """Pictures × steps × amount."""
        return work.count * work.steps * parse_decimal(self.amount)

    def lines(self) -> Iterator[tuple[str, str]]:
        """One line."""
        yield "", self.amount


class TimePrice(BasePrice):
    """Per second of the provider's work or of a GPU."""

    unit: Literal["SECOND", "GPU_SECOND"]
    amount: DecimalText
    most_per_image: DecimalText
    """Seconds one picture takes at most; what is reserved."""

    def worst(self, work: Work) -> Fraction:
        """Pictures × the most seconds × amount."""
        return work.count * parse_decimal(self.most_per_image) * parse_decimal(self.amount)

    def actual(self, work: Work, measured: Measured) -> Fraction:
        """Measured seconds × amount."""
        if MILLISECONDS not in measured:
            return self.worst(work)
        return Fraction(measured[MILLISECONDS], 1000) * parse_decimal(self.amount)

    def lines(self) -> Iterator[tuple[str, str]]:
        """One line."""
        yield "", self.amount


class TokenPrice(BasePrice):
    """Per million tokens of each kind; kinds are named as the provider's usage names them."""

    unit: Literal["TOKEN"]
    amounts: Mapping[str, DecimalText] = Field(min_length=1)
    most_per_image: Mapping[str, Table]
    """Tokens of a kind that one picture takes at most. Without `input_tokens`: as many as the prompt has bytes."""

    def worst(self, work: Work) -> Fraction:
        """Pictures × the most tokens of each kind × its amount."""
        return sum((self._most(kind, work) * self._each(kind) for kind in self.amounts), Fraction(0))

    def actual(self, work: Work, measured: Measured) -> Fraction:
        """Measured tokens of each kind × its amount."""
        if any(kind not in measured for kind in self.amounts):
            return self.worst(work)
        return sum((measured[kind] * self._each(kind) for kind in self.amounts), Fraction(0))

    def lines(self) -> Iterator[tuple[str, str]]:
        """One line per kind, of a million tokens."""
        yield from self.amounts.items()

    def _each(self, kind: str) -> Fraction:
        return parse_decimal(self.amounts[kind]) / TOKENS

    def _most(self, kind: str, work: Work) -> Fraction:
        if kind in self.most_per_image:
            return work.count * entry(self.most_per_image[kind], work)
        if kind == INPUT_TOKENS:
            return Fraction(work.count * work.prompt_bytes)
        raise UnpricedError(f"nobody says how many {kind} a picture takes at most")


Price = Annotated[
    ImagePrice | MegapixelPrice | StepPrice | TimePrice | TokenPrice,
    Field(discriminator="unit"),
]


def worst_case(price: BasePrice, work: Work) -> Money:
    """The most one call may cost, rounded up once."""
    return Money(ceil_micros(price.worst(work)), USD)


def actual_cost(price: BasePrice, work: Work, measured: Measured) -> Money:
    """What one call cost, rounded up once."""
    return Money(ceil_micros(price.actual(work, measured)), USD)
