from __future__ import annotations

from fractions import Fraction
from math import floor

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rerankd.policies.prices import Price, Prices
from rerankd.types import Usage

COUNTS = st.integers(0, 2**40)


@pytest.mark.parametrize(
    ("price", "usage", "cost"),
    [
        (Price(tokens=20_000), Usage(prompt_tokens=1_000_000), 20_000),
        (Price(tokens=20_000), Usage(prompt_tokens=1_000_000, cached_tokens=750_000), 5_000),
        (Price(tokens=1), Usage(prompt_tokens=499_999), 0),
        (Price(tokens=1), Usage(prompt_tokens=500_000), 1),
        (Price(searches=2_000_000), Usage(prompt_tokens=5, search_units=3), 6_000),
        (Price(tokens=100_000, searches=500), Usage(prompt_tokens=4, search_units=1), 1),  # 0.4 and 0.5: rounded once
        (Price(tokens=20_000, searches=2_000_000), Usage(prompt_tokens=9, cached_tokens=9, search_units=3), 0),
        (Price(searches=2_000_000), Usage(prompt_tokens=9, cached_tokens=8, search_units=3), 6_000),
        (Price(tokens=20_000, searches=2_000_000), Usage(prompt_tokens=0), 0),
    ],
)
def test_tokens_that_no_cache_saved_and_searches_cost(price: Price, usage: Usage, cost: int) -> None:
    assert price.cost(usage) == cost


@given(COUNTS, COUNTS, COUNTS, COUNTS, COUNTS)
def test_the_cost_is_exact_before_it_is_rounded(
    tokens: int, cached: int, units: int, of_tokens: int, of_searches: int
) -> None:
    usage = Usage(prompt_tokens=tokens, cached_tokens=min(cached, tokens), search_units=units)
    counted = tokens - usage.cached_tokens
    searches = 0 if tokens and not counted else units
    exact = Fraction(counted * of_tokens, 10**6) + Fraction(searches * of_searches, 10**3)
    assert Price(of_tokens, of_searches).cost(usage) == floor(exact + Fraction(1, 2))


def test_a_model_without_a_price_is_free() -> None:
    prices = Prices({"bge": (20_000, 7)})
    assert prices.of("bge") == Price(tokens=20_000, searches=7)
    assert prices.of("other").cost(Usage(prompt_tokens=10**9, search_units=10**6)) == 0
