"""Prices that are the sum of their pictures' prices, and may be less for many: by picture, megapixel and step. Pure."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Iterator, Mapping
from fractions import Fraction
from itertools import pairwise
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from services.router.money import parse_decimal
from services.router.price_base import BasePrice, DecimalText, Table, Work, entry
from services.router.specs import Operation


class Tier(BaseModel):
    """What changes once an account has bought so many pictures of the route in a calendar month (UTC)."""

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)

    after: int = Field(ge=1, alias="from")
    """Pictures bought before: 1000 = the 1001st picture is the first at this tier."""
    amount: DecimalText | None = None
    first: DecimalText | None = None
    amounts: Table | None = None


class CountedPrice(BasePrice):
    """A price that is the sum of its pictures' prices, and may be less for many."""

    tiers: tuple[Tier, ...] = ()

    @model_validator(mode="after")
    def _tiers_fit(self) -> Self:
        if any(lower.after >= upper.after for lower, upper in pairwise(self.tiers)):
            raise ValueError("tiers must begin later one by one")
        for tier in self.tiers:
            changes = self._changes(tier)
            if not changes or not changes.keys() <= type(self).model_fields.keys():
                raise ValueError(f"the tier from {tier.after} must state what the price itself states")
        return self

    @property
    def tiered(self) -> bool:
        """See `BasePrice.tiered`."""
        return bool(self.tiers)

    def levels(self) -> Iterator[tuple[int, BasePrice]]:
        """See `BasePrice.levels`."""
        yield 0, self
        for tier in self.tiers:
            yield tier.after, self.model_copy(update=self._changes(tier))

    def lines(self) -> Iterator[tuple[str, str]]:
        """The price's own entries, then those of each tier."""
        yield from self.own_lines()
        for tier in self.tiers:
            stated = {"": tier.amount, "first megapixel": tier.first, **(tier.amounts or {})}
            for applies_to, amount in stated.items():
                if amount is not None:
                    yield f"{applies_to} from {tier.after} pictures a month".strip(), amount

    @abstractmethod
    def own_lines(self) -> Iterator[tuple[str, str]]:
        """The entries of the first tier."""

    def _changes(self, tier: Tier) -> dict[str, object]:
        stated = {name: value for name in ("amount", "first") if (value := getattr(tier, name)) is not None}
        if tier.amounts is not None:
            stated["amounts"] = {**getattr(self, "amounts", {}), **tier.amounts}
        return stated


class ImagePrice(CountedPrice):
    """Per picture, by size and quality, and by operation where those differ."""

    unit: Literal["IMAGE"]
    amounts: Table = Field(min_length=1)
    operations: Mapping[Operation, Table] = Field(default_factory=dict)
    """Instead of `amounts` for an operation."""
    per_input: DecimalText = "0"
    """Added to each picture for every source image."""

    def worst(self, work: Work) -> Fraction:
        """Pictures × (the entry + source images × per_input)."""
        table = self.operations.get(Operation(work.operation), self.amounts)
        return work.count * (entry(table, work) + work.inputs * parse_decimal(self.per_input))

    def own_lines(self) -> Iterator[tuple[str, str]]:
        """One line per entry."""
        yield from self.amounts.items()
        for operation, table in self.operations.items():
            yield from ((f"{operation} {key}", amount) for key, amount in table.items())
        yield from _stated(("source image", self.per_input))


class MegapixelPrice(CountedPrice):
    """Per million pixels of each picture, and of each source image where those count too."""

    unit: Literal["MEGAPIXEL"]
    amount: DecimalText
    first: DecimalText | None = None
    """The first megapixel of a picture, also a begun one; None: like any other."""
    base: DecimalText = "0"
    """Added to each picture."""
    input_amount: DecimalText = "0"
    """Per megapixel of each source image."""
    input_megapixels: DecimalText = "1"
    """As how many megapixels a source image counts at most."""
    megapixel: int = Field(1_000_000, ge=1)
    """Pixels of a megapixel, as the provider counts."""
    whole: bool = False
    """Whether a begun megapixel of a picture counts as a whole one."""

    def worst(self, work: Work) -> Fraction:
        """Pictures × (base + first + further megapixels × amount + source images' megapixels × input_amount)."""
        pixels = Fraction(work.size.pixels, self.megapixel)
        further = Fraction(math.ceil(pixels)) if self.whole else pixels
        each = parse_decimal(self.base)
        if self.first is not None:
            each += parse_decimal(self.first)
            further = max(Fraction(0), further - 1)
        inputs = work.inputs * parse_decimal(self.input_megapixels) * parse_decimal(self.input_amount)
        return work.count * (each + further * parse_decimal(self.amount) + inputs)

    def own_lines(self) -> Iterator[tuple[str, str]]:
        """The amount, and what else is stated."""
        yield "", self.amount
        yield from _stated(
            ("first megapixel", self.first or "0"), ("picture", self.base), ("source image", self.input_amount)
        )


class StepPrice(CountedPrice):
    """Per denoising step of each picture."""

    unit: Literal["STEP"]
    amount: DecimalText

    def worst(self, work: Work) -> Fraction:
        """Pictures × steps × amount."""
        return work.count * work.steps * parse_decimal(self.amount)

    def own_lines(self) -> Iterator[tuple[str, str]]:
        """One line."""
        yield "", self.amount


def _stated(*lines: tuple[str, str]) -> Iterator[tuple[str, str]]:
    return ((applies_to, amount) for applies_to, amount in lines if parse_decimal(amount))
