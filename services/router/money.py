"""Money as whole micros (10⁻⁶) of a currency. Nothing here rounds down: a price is never told lower than it is."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation, localcontext
from fractions import Fraction
from functools import lru_cache

MICROS = 1_000_000
USD = "USD"

_CURRENCY = re.compile(r"[A-Z]{3}")
_DECIMAL = re.compile(r"[0-9]{1,12}(\.[0-9]{1,18})?")


class CurrencyMismatchError(ValueError):
    """Two amounts of different currencies met; the text names both."""


@dataclass(frozen=True, slots=True)
class Money:
    """An amount: `micros` of `currency` (ISO 4217). May be negative only as the result of a subtraction."""

    micros: int
    currency: str = USD

    def __post_init__(self) -> None:
        if not _CURRENCY.fullmatch(self.currency):
            raise ValueError(f"currency must be three capital letters, not {self.currency!r}")

    def __add__(self, other: Money) -> Money:
        return Money(self.micros + self._same(other), self.currency)

    def __sub__(self, other: Money) -> Money:
        return Money(self.micros - self._same(other), self.currency)

    def __mul__(self, count: int) -> Money:
        return Money(self.micros * count, self.currency)

    def __lt__(self, other: Money) -> bool:
        return self.micros < self._same(other)

    def __le__(self, other: Money) -> bool:
        return self.micros <= self._same(other)

    def __str__(self) -> str:
        """Like `0.012345 USD`."""
        return f"{decimal_text(self.micros)} {self.currency}"

    def _same(self, other: Money) -> int:
        if other.currency != self.currency:
            raise CurrencyMismatchError(f"{self.currency} and {other.currency} cannot be added or compared")
        return other.micros


def total(amounts: Iterable[Money], currency: str = USD) -> Money:
    """The sum; zero of `currency` when there is none."""
    result = Money(0, currency)
    for amount in amounts:
        result += amount
    return result


@lru_cache(maxsize=4096)
def parse_decimal(text: str) -> Fraction:
    """A price of the catalog, such as `0.0055`: not negative, no exponent, exact.

    Raises:
        ValueError: the text is not such a number.
    """
    if not _DECIMAL.fullmatch(text):
        raise ValueError(f"must be a decimal string such as '0.0055', not {text!r}")
    try:
        return Fraction(Decimal(text))
    except InvalidOperation as error:
        raise ValueError(f"not a number: {text!r}") from error


def ceil_micros(amount: Fraction) -> int:
    """The amount in micros, rounded up to the next whole one."""
    return math.ceil(amount * MICROS)


def decimal_text(micros: int) -> str:
    """Micros as a decimal string without needless zeros: 12300 is `0.0123`."""
    with localcontext() as context:
        context.prec = 60
        text = format(Decimal(micros) / MICROS, "f")
    return text.rstrip("0").rstrip(".") if "." in text else text
