from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from rerankd.engine.linear import HEIGHTS, TILE
from rerankd.engine.packing import batch_height, pack
from rerankd.engine.sequences import SharedPrefix, TokenSequence

LENGTHS = st.lists(st.integers(1, 200), min_size=1, max_size=12)
PADDING = 1


def sequences(lengths: list[int]) -> list[TokenSequence]:
    return [TokenSequence([place + 2] * length, [place % 2] * length) for place, length in enumerate(lengths)]


@given(LENGTHS)
def test_sequences_lie_whole_and_end_to_end_in_the_order_given(lengths: list[int]) -> None:
    batch = pack(sequences(lengths))
    at = 0
    for place, (span, length) in enumerate(zip(batch.spans, lengths, strict=True)):
        assert (span.start, span.stop) == (at, at + length)
        assert batch.input_ids[span.rows].tolist() == [place + 2] * length
        assert batch.token_type_ids[span.rows].tolist() == [place % 2] * length
        assert batch.position_ids[span.rows].tolist() == list(range(length))
        at += length


@given(LENGTHS)
def test_a_batch_is_filled_up_to_a_height_that_is_allowed(lengths: list[int]) -> None:
    batch = pack(sequences(lengths), heights=(16, 64))
    assert batch.rows % TILE in (0, 16, 64)
    assert batch.rows >= sum(lengths)
    filling = batch.input_ids[sum(lengths) :].tolist()
    assert filling == [0] * len(filling)


@given(st.integers(1, 3000))
def test_heights_are_the_next_ones(rows: int) -> None:
    height = batch_height(rows)
    allowed = [whole * TILE + part for whole in range(7) for part in (0, *HEIGHTS)]
    assert height == min(one for one in allowed if one >= rows)


def test_a_sequence_without_types_has_type_0() -> None:
    assert not pack([TokenSequence([5, 6])]).token_type_ids.any()


def test_a_padding_token_in_a_text_takes_no_position() -> None:
    """transformers' RoBERTa counts the tokens that are no padding, and gives padding the position before the first."""
    batch = pack([TokenSequence([0, 7, PADDING, 8, PADDING, 2])], padding_id=PADDING)
    assert batch.position_ids[:6].tolist() == [0, 1, -1, 2, -1, 3]


def test_positions_go_on_behind_a_shared_prefix() -> None:
    batch = pack([TokenSequence([5, 6], prefix=SharedPrefix([1, 2, 3]))])
    assert batch.position_ids[:2].tolist() == [3, 4]
