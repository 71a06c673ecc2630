"""Packed batches: sequences laid end to end, never padded, a bounded number of tokens at a time.

Neighbours of equal length share one attention call, so sequences are packed in order of length.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, groupby

import torch

from rerankd.engine.attention import Spans


@dataclass(frozen=True, slots=True)
class TokenSequence:
    """The ids of one sequence with its special tokens, and the token type of each."""

    ids: list[int]
    types: list[int]

    def __len__(self) -> int:
        return len(self.ids)


@dataclass(frozen=True, slots=True)
class PackedBatch:
    """`members` are the indexes of the sequences in the caller's list, in the order in which they lie in the rows."""

    members: list[int]
    lengths: list[int]
    input_ids: torch.Tensor  # [1, rows]
    token_type_ids: torch.Tensor  # [1, rows]
    position_ids: torch.Tensor  # [1, rows], from 0 in each sequence
    spans: Spans

    @property
    def starts(self) -> list[int]:
        """The first row of each sequence."""
        return list(chain([0], torch.tensor(self.lengths[:-1], dtype=torch.long).cumsum(0).tolist()))


def pack(sequences: Sequence[TokenSequence], token_budget: int) -> Iterator[PackedBatch]:
    """Batches of at most `token_budget` rows, shortest sequences first; a longer sequence gets a batch of its own."""
    members: list[int] = []
    rows = 0
    for index in sorted(range(len(sequences)), key=lambda index: len(sequences[index])):
        length = len(sequences[index])
        if members and rows + length > token_budget:
            yield _batch(sequences, members)
            members, rows = [], 0
        members.append(index)
        rows += length
    if members:
        yield _batch(sequences, members)


def _batch(sequences: Sequence[TokenSequence], members: list[int]) -> PackedBatch:
    lengths = [len(sequences[index]) for index in members]
    return PackedBatch(
        members=members,
        lengths=lengths,
        input_ids=_row(chain.from_iterable(sequences[index].ids for index in members)),
        token_type_ids=_row(chain.from_iterable(sequences[index].types for index in members)),
        position_ids=_row(chain.from_iterable(range(length) for length in lengths)),
        spans=_spans(lengths),
    )


def _row(values: chain[int]) -> torch.Tensor:
    return torch.tensor(list(values), dtype=torch.long).unsqueeze(0)


def _spans(lengths: list[int]) -> Spans:
    spans: Spans = []
    start = 0
    for length, equals in groupby(lengths):
        count = sum(1 for _ in equals)
        spans.append((start, count, length))
        start += count * length
    return spans
