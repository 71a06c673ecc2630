from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rerankd.engine.windows import Window, query_fits, reading, windows
from rerankd.errors import BadRequest
from tests.engine.asking import request


def as_the_authors_do(length: int, room: int, overlap: int) -> list[Window]:
    """jina-reranker-v2's own loop: a window that would reach the end is replaced by the last `room` tokens."""
    found = []
    start = 0
    while start + room < length:
        found.append((start, start + room))
        start += room - overlap
    return [*found, (max(0, length - room), length)]


@given(length=st.integers(0, 500), room=st.integers(1, 100), share=st.floats(0, 0.99))
def test_windows_are_those_of_the_models_authors(length: int, room: int, share: float) -> None:
    overlap = int(room * share)
    assert windows(length, room, overlap, None) == as_the_authors_do(length, room, overlap)


@given(length=st.integers(0, 500), room=st.integers(1, 100), overlap=st.integers(0, 99), most=st.integers(1, 9))
def test_there_are_never_more_than_asked_for_and_none_is_longer_than_the_room(
    length: int, room: int, overlap: int, most: int
) -> None:
    found = windows(length, room, overlap, most)
    assert 1 <= len(found) <= most
    assert all(stop - start <= room for start, stop in found)
    assert found[0][0] == 0
    assert all(start <= stop for (_, stop), (start, _) in pairwise(found)), "nothing between two is left out"


def test_no_room_is_one_empty_window() -> None:
    assert windows(7, 0, 0, None) == [(0, 0)]


def test_a_window_by_hand() -> None:
    assert windows(25, 10, 2, None) == [(0, 10), (8, 18), (15, 25)]
    assert windows(25, 10, 2, 2) == [(0, 10), (8, 18)]
    assert windows(10, 10, 2, None) == [(0, 10)]


def test_the_request_decides_before_the_model() -> None:
    assert reading(request("q", ["d"])).chunks == 1
    assert reading(request("q", ["d"]), None).chunks is None
    assert reading(request("q", ["d"], max_chunks_per_doc=3), None).chunks == 3
    assert reading(request("q", ["d"])).overlap == 80
    assert reading(request("q", ["d"], overlap_tokens=5)).overlap == 5


def test_an_overlap_is_a_quarter_of_the_room_at_most() -> None:
    wanted = reading(request("q", ["d"], max_chunks_per_doc=9, overlap_tokens=50))
    assert wanted.of(0, 25, 10) == ([(0, 10), (8, 18), (15, 25)], False)


def test_what_is_left_out_is_told_and_an_error_where_nothing_may_be() -> None:
    assert reading(request("q", ["d"])).of(0, 11, 10) == ([(0, 10)], True)
    assert reading(request("q", ["d"])).of(0, 10, 10) == ([(0, 10)], False)
    with pytest.raises(BadRequest, match=r"documents\[4\].*11 tokens.*10 fit") as caught:
        reading(request("q", ["d"], truncation=False)).of(4, 11, 10)
    assert caught.value.param == "documents[4]"


def test_a_cut_that_was_asked_for_is_told_and_no_error() -> None:
    wanted = reading(request("q", ["d"], truncation=False, max_tokens_per_doc=5))
    assert wanted.of(0, 11, 10) == ([(0, 5)], True)


def test_a_query_that_does_not_fit_is_an_error_only_where_nothing_may_be_cut() -> None:
    query_fits(request("q", ["d"]), 11, 10)
    query_fits(request("q", ["d"], truncation=False), 10, 10)
    with pytest.raises(BadRequest, match="`query` has 11 tokens where 10 fit"):
        query_fits(request("q", ["d"], truncation=False), 11, 10)
