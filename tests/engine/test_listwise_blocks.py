from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rerankd.engine.listwise_blocks import blocks


@pytest.mark.parametrize(
    ("documents", "sizes"),
    [(1, [1]), (124, [124]), (125, [125]), (126, [125, 1]), (250, [125, 125]), (260, [125, 125, 10])],
)
def test_a_block_holds_125_documents(documents: int, sizes: list[int]) -> None:
    assert [len(block) for block in blocks([10] * documents, 131072, 2048)] == sizes


def test_a_block_of_the_longest_documents_ends_where_one_more_might_not_fit() -> None:
    assert [len(block) for block in blocks([2048] * 130, 131072 - 2 * 512, 2048)] == [63, 63, 4]


def test_the_document_that_fills_a_block_is_its_last() -> None:
    assert blocks([50, 49, 1, 50], 200, 100) == [range(3), range(3, 4)]
    assert blocks([50, 49, 0, 50], 200, 100) == [range(4)]


def test_where_nothing_fits_every_document_has_its_own_block() -> None:
    assert blocks([5, 0, 5], 10, 10) == [range(1), range(1, 2), range(2, 3)]


@given(
    lengths=st.lists(st.integers(0, 100), max_size=400), capacity=st.integers(-10, 5000), longest=st.integers(1, 100)
)
def test_every_document_is_in_one_block_in_order_and_fits(lengths: list[int], capacity: int, longest: int) -> None:
    lengths = [min(length, longest) for length in lengths]
    found = blocks(lengths, capacity, longest)
    assert [index for block in found for index in block] == list(range(len(lengths)))
    assert all(1 <= len(block) <= 125 for block in found)
    assert all(sum(lengths[index] for index in block) <= capacity or len(block) == 1 for block in found)
