from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from rerankd.engine.packing import TokenSequence, pack

LENGTHS = st.lists(st.integers(1, 40), min_size=1, max_size=30)


def sequences(lengths: list[int]) -> list[TokenSequence]:
    return [TokenSequence([index] * length, [index % 2] * length) for index, length in enumerate(lengths)]


@given(lengths=LENGTHS, budget=st.integers(1, 100))
def test_every_sequence_lies_whole_in_exactly_one_batch(lengths: list[int], budget: int) -> None:
    seen: list[int] = []
    for batch in pack(sequences(lengths), budget):
        ids = batch.input_ids[0].tolist()
        for member, start, length in zip(batch.members, batch.starts, batch.lengths, strict=True):
            assert length == lengths[member]
            assert ids[start : start + length] == [member] * length
            assert batch.token_type_ids[0, start].item() == member % 2
            assert batch.position_ids[0, start : start + length].tolist() == list(range(length))
            seen.append(member)
        assert len(ids) == sum(batch.lengths)
    assert sorted(seen) == list(range(len(lengths)))


@given(lengths=LENGTHS, budget=st.integers(1, 100))
def test_a_batch_keeps_the_budget_unless_one_sequence_alone_is_longer(lengths: list[int], budget: int) -> None:
    for batch in pack(sequences(lengths), budget):
        assert sum(batch.lengths) <= budget or len(batch.members) == 1


@given(lengths=LENGTHS)
def test_spans_cover_the_rows_in_order_and_neighbours_differ_in_length(lengths: list[int]) -> None:
    (batch,) = pack(sequences(lengths), 10_000)
    at = 0
    for start, count, length in batch.spans:
        assert start == at
        at += count * length
    assert at == sum(lengths)
    kinds = [length for _, _, length in batch.spans]
    assert len(set(kinds)) == len(kinds), "equal lengths share a call"
