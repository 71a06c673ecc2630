from __future__ import annotations

import msgspec
import pytest

from rerankd.channels.usage import ABSURD_MORE, ABSURD_TIMES, believed
from rerankd.estimate import estimated_request
from rerankd.types import Usage
from tests.conftest import request_for

REQUEST = request_for("one document", "another document")
EXPECTED = estimated_request(REQUEST)
MOST = ABSURD_TIMES * EXPECTED + ABSURD_MORE


@pytest.mark.parametrize("tokens", [1, EXPECTED, MOST])
def test_a_count_that_can_be_true_is_believed(tokens: int) -> None:
    usage = Usage(prompt_tokens=tokens, cached_tokens=1, search_units=1)
    assert believed(usage, REQUEST) == usage


@pytest.mark.parametrize("tokens", [0, -1, -(10**18), MOST + 1, 10**300])
def test_a_count_that_cannot_is_replaced_by_our_own(tokens: int) -> None:
    found = believed(Usage(prompt_tokens=tokens, cached_tokens=7, search_units=3), REQUEST)
    assert found == Usage(prompt_tokens=EXPECTED, estimated=True, search_units=3)


def test_what_nobody_counted_is_estimated() -> None:
    assert believed(Usage(prompt_tokens=0, estimated=True), REQUEST) == Usage(prompt_tokens=EXPECTED, estimated=True)


@pytest.mark.parametrize(("cached", "kept"), [(-5, 0), (0, 0), (3, 3), (10, 10), (11, 10), (10**20, 10)])
def test_no_more_is_cached_than_there_was(cached: int, kept: int) -> None:
    assert believed(Usage(prompt_tokens=10, cached_tokens=cached), REQUEST).cached_tokens == kept


@pytest.mark.parametrize(("units", "kept"), [(None, None), (0, 0), (7, 7), (-1, None), (10**18, None)])
def test_search_units_that_cannot_be_true_are_none(units: int | None, kept: int | None) -> None:
    assert believed(Usage(prompt_tokens=10, search_units=units), REQUEST).search_units == kept


@pytest.mark.parametrize("text", ["letters alone", "digits 0123456789", "北京是中国的首都。", "😀😀", "", "Ω" * 1000])
def test_the_bound_is_the_same_whichever_way_it_is_found(text: str) -> None:
    request = request_for(text, text * 3)
    most = ABSURD_TIMES * estimated_request(request) + ABSURD_MORE
    assert not believed(Usage(prompt_tokens=most), request).estimated
    assert believed(Usage(prompt_tokens=most + 1), request).estimated


def test_a_cut_that_was_asked_for_lowers_the_bound() -> None:
    cut = msgspec.structs.replace(request_for("word " * 10_000), max_tokens_per_doc=10)
    assert not believed(Usage(prompt_tokens=1000), cut).estimated
    assert believed(Usage(prompt_tokens=10_000), cut).estimated
