from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.router.money import (
    CurrencyMismatchError,
    Money,
    ceil_micros,
    decimal_text,
    parse_decimal,
    total,
)

amounts = st.integers(min_value=-(10**15), max_value=10**15).map(Money)
prices = st.from_regex(r"[0-9]{1,6}(\.[0-9]{1,12})?", fullmatch=True)


@given(prices)
def test_a_price_is_never_rounded_down(text: str) -> None:
    exact = parse_decimal(text) * 1_000_000
    assert exact <= ceil_micros(parse_decimal(text)) < exact + 1


@given(st.lists(prices, min_size=1, max_size=8))
def test_rounding_each_part_up_is_never_less_than_rounding_the_sum_up(texts: list[str]) -> None:
    parts = [parse_decimal(text) for text in texts]
    once = ceil_micros(sum(parts, Fraction(0)))
    assert once <= sum(map(ceil_micros, parts)) < once + len(parts)


@given(amounts, amounts, amounts)
def test_sums_do_not_depend_on_the_order(a: Money, b: Money, c: Money) -> None:
    assert total([a, b, c]) == total([c, a, b])
    assert (a + b) - b == a


@given(amounts, st.integers(min_value=0, max_value=1000))
def test_times_is_repeated_addition(a: Money, count: int) -> None:
    assert a * count == total([a] * count)


@given(st.integers(min_value=0, max_value=10**15))
def test_the_text_reads_back_exactly(micros: int) -> None:
    assert parse_decimal(decimal_text(micros)) * 1_000_000 == micros


@pytest.mark.parametrize("text", ["", ".5", "1.", "-1", "1e3", "1,0", " 1", "NaN", "Infinity", "1" * 13])
def test_what_is_no_plain_decimal_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="decimal string"):
        parse_decimal(text)


def test_currencies_do_not_mix() -> None:
    with pytest.raises(CurrencyMismatchError, match="USD and EUR"):
        Money(1) + Money(1, "EUR")
    with pytest.raises(CurrencyMismatchError):
        _ = Money(1) < Money(1, "EUR")
    with pytest.raises(ValueError, match="three capital letters"):
        Money(1, "usd")


@pytest.mark.parametrize(
    ("micros", "text"), [(0, "0 USD"), (1, "0.000001 USD"), (1_500_000, "1.5 USD"), (-20_000, "-0.02 USD")]
)
def test_text(micros: int, text: str) -> None:
    assert str(Money(micros)) == text
