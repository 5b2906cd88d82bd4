"""What providers charge, as data: six ways to count, each with its source and date.

Prices are decimal strings and computed exactly; an amount becomes whole micros once, at the end of one call's sum, and
then upwards. `worst` answers before the call, `actual` after it from what the provider measured.

    IMAGE       per picture, by size and quality        STEP         per denoising step of a picture
    MEGAPIXEL   per million pixels of a picture         SECOND       per second of the provider's work
    TOKEN       per million tokens, by kind             GPU_SECOND   per second of a GPU

The first three may have volume tiers (see `CountedPrice`); each may have a batch discount.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from fractions import Fraction
from typing import Annotated, Final, Literal

from pydantic import Field

from services.router.counted_prices import ImagePrice, MegapixelPrice, StepPrice
from services.router.money import USD, Money, ceil_micros, parse_decimal
from services.router.price_base import BasePrice, DecimalText, Measured, Table, UnpricedError, Work, entry

__all__ = ["BasePrice", "Measured", "Price", "UnpricedError", "Work", "actual_cost", "worst_case"]

TOKENS: Final = 1_000_000
MILLISECONDS: Final = "milliseconds"
"""Name under which an adapter states the time a provider bills, in `Measured`; for prices by SECOND and GPU_SECOND."""
PROMPT_TOKENS: Final = ("input_tokens", "input_text_tokens")


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
    """Tokens of a kind that one picture takes at most; without those of `PROMPT_TOKENS`: as many as the prompt has
    bytes."""
    most_per_input: Mapping[str, DecimalText] = Field(default_factory=dict)
    """Tokens of a kind that one source image adds to each picture at most."""

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
        inputs = work.count * work.inputs * parse_decimal(self.most_per_input.get(kind, "0"))
        if kind in self.most_per_image:
            return work.count * entry(self.most_per_image[kind], work) + inputs
        if kind in PROMPT_TOKENS:
            return work.count * work.prompt_bytes + inputs
        if kind in self.most_per_input:
            return inputs
        raise UnpricedError(f"nobody says how many {kind} a picture takes at most")


Price = Annotated[
    ImagePrice | MegapixelPrice | StepPrice | TimePrice | TokenPrice,
    Field(discriminator="unit"),
]


def worst_case(price: BasePrice, work: Work) -> Money:
    """The most one call may cost, at whichever tier it may be billed, rounded up once."""
    dearest = max(level.worst(work) for _, level in price.levels())
    return Money(ceil_micros(dearest * _billed(price, work)), USD)


def actual_cost(price: BasePrice, work: Work, measured: Measured, volume: int = 0) -> Money:
    """What one call cost, rounded up once. `volume`: pictures that the account bought before in the month."""
    levels = [*price.levels()]
    if len(levels) == 1:
        return Money(ceil_micros(price.actual(work, measured) * _billed(price, work)), USD)
    cost = Fraction(0)
    for number, (after, level) in enumerate(levels):
        until = levels[number + 1][0] if number + 1 < len(levels) else volume + work.count
        here = max(0, min(until, volume + work.count) - max(after, volume))
        if here:
            cost += level.actual(replace(work, count=here), measured)
    return Money(ceil_micros(cost * _billed(price, work)), USD)


def _billed(price: BasePrice, work: Work) -> Fraction:
    """The part of the price that is billed."""
    return 1 - parse_decimal(price.batch_discount) if work.batch else Fraction(1)
