import datetime
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from services.router.candidates import job_worst_case, split_count
from services.router.money import Money
from services.router.pricing import BasePrice, Price, UnpricedError, Work, actual_cost, worst_case
from services.router.specs import Size

PRICES: TypeAdapter[Any] = TypeAdapter(Price)
SQUARE = Size(1024, 1024)
WIDE = Size(1536, 1024)


def price(unit: str, **fields: Any) -> BasePrice:
    made: BasePrice = PRICES.validate_python(
        {"unit": unit, "source": "test", "date": datetime.date(2026, 11, 20), **fields}
    )
    return made


TABLE = {"1024x1024/low": "0.005", "1024x1024": "0.02", "*/low": "0.01", "*": "0.25"}


@pytest.mark.parametrize(
    ("of", "work", "micros"),
    [
        (price("IMAGE", amounts=TABLE), Work(SQUARE, 1, quality="low"), 5_000),
        (price("IMAGE", amounts=TABLE), Work(SQUARE, 3, quality="high"), 60_000),
        (price("IMAGE", amounts=TABLE), Work(WIDE, 2, quality="low"), 20_000),
        (price("IMAGE", amounts=TABLE), Work(WIDE, 1), 250_000),
        (price("MEGAPIXEL", amount="0.003"), Work(SQUARE, 1), 3_146),
        (price("MEGAPIXEL", amount="0.003"), Work(SQUARE, 2), 6_292),
        (price("STEP", amount="0.00001"), Work(SQUARE, 4, steps=20), 800),
        (price("STEP", amount="0.0000001"), Work(SQUARE, 1, steps=1), 1),
        (price("SECOND", amount="0.001", most_per_image="2.5"), Work(SQUARE, 2), 5_000),
        (price("GPU_SECOND", amount="0.0004", most_per_image="10"), Work(SQUARE, 1), 4_000),
        (
            price(
                "TOKEN",
                amounts={"input_tokens": "5", "output_tokens": "30"},
                most_per_image={"output_tokens": {"*": "1000"}},
            ),
            Work(SQUARE, 2, prompt_bytes=100),
            2 * (1000 * 30 + 100 * 5),
        ),
    ],
)
def test_worst_case(of: BasePrice, work: Work, micros: int) -> None:
    assert worst_case(of, work) == Money(micros)


TOKENS = price(
    "TOKEN", amounts={"input_tokens": "5", "output_tokens": "30"}, most_per_image={"output_tokens": {"*": "1000"}}
)


@pytest.mark.parametrize(
    ("of", "measured", "micros"),
    [
        (TOKENS, {"input_tokens": 10, "output_tokens": 200, "total_tokens": 210}, 6_050),
        (TOKENS, {"output_tokens": 200}, 30_000),
        (TOKENS, {}, 30_000),
        (price("GPU_SECOND", amount="0.0004", most_per_image="10"), {"milliseconds": 1_500}, 600),
        (price("GPU_SECOND", amount="0.0004", most_per_image="10"), {"milliseconds": 1}, 1),
        (price("STEP", amount="0.00001"), {"milliseconds": 7}, 200),
    ],
)
def test_actual_cost_is_measured_where_the_price_is_by_measure(
    of: BasePrice, measured: dict[str, int], micros: int
) -> None:
    assert actual_cost(of, Work(SQUARE, 1, steps=20), measured) == Money(micros)


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"unit": "STEP", "amount": 0.00001}, "valid string"),
        ({"unit": "STEP", "amount": "1e-5"}, "decimal string"),
        ({"unit": "STEP", "amount": "-1"}, "decimal string"),
        ({"unit": "IMAGE", "amounts": {}}, "at least 1 item"),
        ({"unit": "LIGHTYEAR", "amount": "1"}, "does not match any of the expected tags"),
        ({"unit": "STEP", "amount": "1", "discount": "0.5"}, "Extra inputs"),
    ],
)
def test_a_faulty_price_is_refused(fields: dict[str, Any], told: str) -> None:
    with pytest.raises(ValidationError, match=told):
        PRICES.validate_python({"source": "test", "date": datetime.date(2026, 11, 20), **fields})


def test_a_price_names_its_source_and_day() -> None:
    with pytest.raises(ValidationError, match="source"):
        PRICES.validate_python({"unit": "STEP", "amount": "1", "date": datetime.date(2026, 11, 20)})


def test_what_has_no_entry_is_unpriced() -> None:
    with pytest.raises(UnpricedError, match="1536x1024 in quality high"):
        worst_case(price("IMAGE", amounts={"1024x1024": "1"}), Work(WIDE, quality="high"))


decimals = st.from_regex(r"[0-9]{1,3}(\.[0-9]{1,12})?", fullmatch=True)
works = st.builds(
    Work,
    size=st.builds(Size, st.integers(16, 8192), st.integers(16, 8192)),
    count=st.integers(1, 10),
    steps=st.integers(1, 500),
    prompt_bytes=st.integers(0, 128_000),
)
any_price = st.one_of(
    decimals.map(lambda text: price("IMAGE", amounts={"*": text})),
    decimals.map(lambda text: price("MEGAPIXEL", amount=text)),
    decimals.map(lambda text: price("STEP", amount=text)),
    decimals.map(lambda text: price("GPU_SECOND", amount=text, most_per_image="3.7")),
    decimals.map(
        lambda text: price("TOKEN", amounts={"output_tokens": text}, most_per_image={"output_tokens": {"*": "999"}})
    ),
)


@given(any_price, works)
def test_rounding_never_loses_and_adds_less_than_a_micro(of: BasePrice, work: Work) -> None:
    exact = of.worst(work) * 1_000_000
    assert exact <= worst_case(of, work).micros < exact + 1


@given(any_price, works, st.integers(1, 10), st.integers(1, 10))
def test_splitting_a_job_into_calls_costs_at_most_a_micro_per_call(
    of: BasePrice, work: Work, count: int, per_call: int
) -> None:
    whole = Work(work.size, count, work.steps, work.quality, work.prompt_bytes)
    calls = split_count(count, per_call)
    assert sum(calls) == count
    assert max(calls) <= per_call
    split = job_worst_case(of, work, count, per_call).micros
    exact = of.worst(whole) * 1_000_000
    assert exact <= split < exact + len(calls)


@given(any_price, works, st.integers(1, 9))
def test_more_pictures_never_cost_less(of: BasePrice, work: Work, more: int) -> None:
    larger = Work(work.size, work.count + more, work.steps, work.quality, work.prompt_bytes)
    assert worst_case(of, work) <= worst_case(of, larger)


def test_prices_are_exact() -> None:
    assert price("MEGAPIXEL", amount="0.1").worst(Work(Size(100, 100), 3)) == Fraction(3, 1000)
