"""What every price is made of: exact decimals, tables by size and quality, the work that is priced. Pure."""

from __future__ import annotations

import datetime
from abc import abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from services.router.money import parse_decimal
from services.router.specs import Size


def _decimal(text: str) -> str:
    parse_decimal(text)
    return text


def _share(text: str) -> str:
    if parse_decimal(text) > 1:
        raise ValueError("must be 0 to 1")
    return text


DecimalText = Annotated[str, AfterValidator(_decimal)]
ShareText = Annotated[str, AfterValidator(_share)]
Table = Mapping[str, DecimalText]
"""Amounts by `WIDTHxHEIGHT/quality`, `WIDTHxHEIGHT`, `*/quality` or `*`; the first of these that is there counts."""

Measured = Mapping[str, int]
"""Counted units as the provider states them: `milliseconds`, `input_tokens`, `output_tokens`, …"""


@dataclass(frozen=True, slots=True)
class Work:
    """One call to a provider, as far as prices look at it. `quality` is the catalog's name for the route's quality.

    inputs: source images and controls. operation: by the contract's name. batch: whether it is billed as a batch call.
    """

    size: Size
    count: int = 1
    steps: int = 0
    quality: str = ""
    prompt_bytes: int = 0
    inputs: int = 0
    operation: str = "TEXT_TO_IMAGE"
    batch: bool = False


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

    unit: str
    """How it is counted: one of the contract's `PriceUnit`."""
    source: str = Field(min_length=1)
    """Where the price was read."""
    date: datetime.date
    """The day it was read."""
    batch_discount: ShareText = "0"
    """The part of the price that a batch call is spared, such as `0.5`."""

    @abstractmethod
    def worst(self, work: Work) -> Fraction:
        """The most one call may cost at the first tier and without discount, in the currency's unit."""

    def actual(self, work: Work, measured: Measured) -> Fraction:
        """What a call that delivered `work` cost; its worst case where a needed measure is missing."""
        return self.worst(work)

    @abstractmethod
    def lines(self) -> Iterator[tuple[str, str]]:
        """The price's entries for people and the wire: (applies to, amount)."""

    @property
    def tiered(self) -> bool:
        """Whether it changes with the number of pictures bought."""
        return False

    def levels(self) -> Iterator[tuple[int, BasePrice]]:
        """The price by tier: (pictures bought in the month before it applies, price), from 0 on."""
        yield 0, self
