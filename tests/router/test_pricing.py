import datetime
from dataclasses import replace
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from services.router.candidates import job_worst_case, split_count
from services.router.money import Money
from services.router.pricing import BasePrice, Price, UnpricedError, Work, actual_cost, worst_case
from services.router.specs import Operation, Size

PRICES: TypeAdapter[Any] = TypeAdapter(Price)
SQUARE = Size(1024, 1024)
WIDE = Size(1536, 1024)


def price(unit: str, **fields: Any) -> BasePrice:
    made: BasePrice = PRICES.validate_python(
        {"unit": unit, "source": "test", "date": datetime.date(2026, 11, 20), **fields}
    )
    return made


TABLE = {"1024x1024/low": "0.005", "1024x1024": "0.02", "*/low": "0.01", "*": "0.25"}

FLUX_PRO = price(
    "MEGAPIXEL",
    amount="0.015",
    first="0.03",
    input_amount="0.015",
    input_megapixels="4",
    megapixel=1024 * 1024,
    whole=True,
)
PER_OPERATION = price("IMAGE", amounts={"*": "0.02"}, operations={"UPSCALE": {"*": "0.4"}})
EDITED = price(
    "TOKEN",
    amounts={"input_tokens": "5", "image_tokens": "8", "output_tokens": "30"},
    most_per_image={"output_tokens": {"*": "1000"}},
    most_per_input={"image_tokens": "1500"},
)


@pytest.mark.parametrize(
    ("of", "work", "micros"),
    [
        (price("IMAGE", amounts=TABLE), Work(SQUARE, 1, quality="low"), 5_000),
        (price("IMAGE", amounts=TABLE), Work(SQUARE, 3, quality="high"), 60_000),
        (price("IMAGE", amounts=TABLE), Work(WIDE, 2, quality="low"), 20_000),
        (price("IMAGE", amounts=TABLE), Work(WIDE, 1), 250_000),
        (price("MEGAPIXEL", amount="0.003"), Work(SQUARE, 1), 3_146),
        (price("MEGAPIXEL", amount="0.003"), Work(SQUARE, 2), 6_292),
        (FLUX_PRO, Work(SQUARE, 1), 30_000),
        (FLUX_PRO, Work(Size(256, 256), 1), 30_000),
        (FLUX_PRO, Work(Size(2048, 1024), 1), 45_000),
        (FLUX_PRO, Work(Size(1536, 1024), 2), 90_000),
        (FLUX_PRO, Work(SQUARE, 1, inputs=2), 30_000 + 2 * 4 * 15_000),
        (price("MEGAPIXEL", amount="0.05", base="0.01"), Work(Size(1000, 500), 2), 70_000),
        (price("IMAGE", amounts={"*": "0.02"}, per_input="0.005"), Work(SQUARE, 2, inputs=3), 70_000),
        (price("IMAGE", amounts={"*": "0.02"}, operations={"UPSCALE": {"*": "0.4"}}), Work(SQUARE, 1), 20_000),
        (PER_OPERATION, Work(SQUARE, 1, operation="UPSCALE"), 400_000),
        (price("STEP", amount="0.00001", batch_discount="0.5"), Work(SQUARE, 4, steps=20, batch=True), 400),
        (price("STEP", amount="0.00001", batch_discount="0.5"), Work(SQUARE, 4, steps=20), 800),
        (EDITED, Work(SQUARE, 1, prompt_bytes=100, inputs=2), 1000 * 30 + 100 * 5 + 2 * 1500 * 8),
        (EDITED, Work(SQUARE, 1, prompt_bytes=100), 1000 * 30 + 100 * 5),
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
    inputs=st.integers(0, 16),
    operation=st.sampled_from([operation.value for operation in Operation]),
    batch=st.booleans(),
)


def billed(of: BasePrice, work: Work) -> Fraction:
    return 1 - Fraction(of.batch_discount) if work.batch else Fraction(1)


any_price = st.one_of(
    decimals.map(
        lambda text: price("MEGAPIXEL", amount=text, first="0.03", base="0.01", input_amount="0.015", whole=True)
    ),
    decimals.map(
        lambda text: price("IMAGE", amounts={"*": text}, operations={"EDIT": {"*": "0.5"}}, per_input="0.003")
    ),
    decimals.map(lambda text: price("STEP", amount=text, batch_discount="0.37")),
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
    exact = of.worst(work) * billed(of, work) * 1_000_000
    assert exact <= worst_case(of, work).micros < exact + 1


@given(any_price, works, st.integers(1, 10), st.integers(1, 10))
def test_splitting_a_job_into_calls_costs_at_most_a_micro_per_call(
    of: BasePrice, work: Work, count: int, per_call: int
) -> None:
    whole = replace(work, count=count)
    calls = split_count(count, per_call)
    assert sum(calls) == count
    assert max(calls) <= per_call
    split = job_worst_case(of, work, count, per_call).micros
    exact = of.worst(whole) * billed(of, whole) * 1_000_000
    assert exact <= split < exact + len(calls)


@given(any_price, works, st.integers(1, 9))
def test_more_pictures_never_cost_less(of: BasePrice, work: Work, more: int) -> None:
    larger = replace(work, count=work.count + more)
    assert worst_case(of, work) <= worst_case(of, larger)


def test_prices_are_exact() -> None:
    assert price("MEGAPIXEL", amount="0.1").worst(Work(Size(100, 100), 3)) == Fraction(3, 1000)


TIERED = price(
    "IMAGE",
    amounts={"*": "0.04", "*/low": "0.01"},
    tiers=[{"from": 1000, "amounts": {"*": "0.03"}}, {"from": 5000, "amounts": {"*": "0.02"}}],
)


@pytest.mark.parametrize(
    ("volume", "count", "micros"),
    [
        (0, 4, 160_000),
        (996, 4, 160_000),
        (999, 4, 40_000 + 3 * 30_000),
        (1000, 4, 120_000),
        (4998, 4, 2 * 30_000 + 2 * 20_000),
        (10_000, 1, 20_000),
    ],
)
def test_a_tier_counts_from_the_picture_after_so_many(volume: int, count: int, micros: int) -> None:
    assert actual_cost(TIERED, Work(SQUARE, count), {}, volume) == Money(micros)
    assert actual_cost(TIERED, Work(SQUARE, count, quality="low"), {}, volume) == Money(10_000 * count)


def test_reserved_is_what_the_dearest_tier_costs() -> None:
    assert worst_case(TIERED, Work(SQUARE, 4)) == Money(160_000)
    dearer_later = price("STEP", amount="0.1", tiers=[{"from": 10, "amount": "0.2"}])
    assert worst_case(dearer_later, Work(SQUARE, 1, steps=1)) == Money(200_000)


def test_tiers_begin_later_one_by_one_and_state_what_the_price_states() -> None:
    with pytest.raises(ValidationError, match="later one by one"):
        price("STEP", amount="1", tiers=[{"from": 9, "amount": "1"}, {"from": 9, "amount": "2"}])
    for tier in ({"from": 9}, {"from": 9, "amounts": {"*": "1"}}):
        with pytest.raises(ValidationError, match="must state what the price itself states"):
            price("STEP", amount="1", tiers=[tier])


def test_a_price_tells_its_tiers() -> None:
    told = [*TIERED.lines()]
    assert told[:2] == [("*", "0.04"), ("*/low", "0.01")]
    assert told[2:] == [("* from 1000 pictures a month", "0.03"), ("* from 5000 pictures a month", "0.02")]


tiered = st.builds(
    lambda amounts, steps: price(
        "STEP",
        amount=amounts[0],
        tiers=[{"from": start, "amount": amount} for start, amount in zip(sorted(steps), amounts[1:], strict=False)],
    ),
    st.lists(decimals, min_size=4, max_size=4),
    st.sets(st.integers(1, 40), max_size=3),
)


@given(tiered, works, st.integers(0, 50))
def test_what_is_billed_is_never_above_what_was_reserved(of: BasePrice, work: Work, volume: int) -> None:
    assert actual_cost(of, work, {}, volume) <= worst_case(of, work)


@given(tiered, works, st.integers(0, 50))
def test_pictures_bought_together_or_one_by_one_cost_the_same(of: BasePrice, work: Work, volume: int) -> None:
    one = replace(work, count=1)
    single = sum(actual_cost(of, one, {}, volume + bought).micros for bought in range(work.count))
    together = actual_cost(of, work, {}, volume).micros
    assert together <= single < together + work.count


@given(any_price, works, st.integers(0, 5000))
def test_a_volume_changes_nothing_without_tiers(of: BasePrice, work: Work, volume: int) -> None:
    assert actual_cost(of, work, {}, volume) == actual_cost(of, work, {})
