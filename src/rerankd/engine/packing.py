"""Packed batches: sequences laid end to end, never padded to each other's length."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, chain

import torch

from rerankd.engine.attention import Span
from rerankd.engine.linear import HEIGHTS, TILE
from rerankd.engine.sequences import TokenSequence


@dataclass(frozen=True, slots=True)
class PackedBatch:
    """Rows that belong to no sequence fill the batch up behind the last one.

    `wanted` are the rows whose last hidden states are asked for; None means all. Layers may leave the others as they are.
    """

    input_ids: torch.Tensor  # [rows]
    token_type_ids: torch.Tensor  # [rows]
    position_ids: torch.Tensor  # [rows], from 0 in each sequence
    spans: list[Span]
    wanted: torch.Tensor | None = None

    @property
    def rows(self) -> int:
        return len(self.input_ids)


def pack(
    sequences: Sequence[TokenSequence], heights: Sequence[int] = HEIGHTS, padding_id: int | None = None, filler: int = 0
) -> PackedBatch:
    """The sequences in the order given, filled up with `filler` to whole tiles, or to one of the `heights` below a tile.

    A token `padding_id` takes no position, as RoBERTa's code counts them; the token behind it takes its place.
    """
    lengths = [len(sequence) for sequence in sequences]
    stops = list(accumulate(lengths))
    filling = batch_height(stops[-1], heights) - stops[-1]
    return PackedBatch(
        input_ids=_row(chain(*(sequence.ids for sequence in sequences), (filler for _ in range(filling)))),
        token_type_ids=_row(
            chain(*(sequence.types or [0] * len(sequence) for sequence in sequences), (0 for _ in range(filling)))
        ),
        position_ids=_row(
            chain(*(_positions(sequence, padding_id) for sequence in sequences), (0 for _ in range(filling)))
        ),
        spans=[Span(stop - length, stop) for length, stop in zip(lengths, stops, strict=True)],
    )


def batch_height(rows: int, heights: Sequence[int] = HEIGHTS) -> int:
    """`rows`, rounded up to whole tiles, or to one of the smaller heights."""
    whole, rest = divmod(rows, TILE)
    return whole * TILE + next((height for height in (0, *heights) if height >= rest), TILE)


def _positions(sequence: TokenSequence, padding_id: int | None) -> Sequence[int]:
    first = len(sequence.prefix) if sequence.prefix else 0
    if padding_id is None or padding_id not in sequence.ids:
        return range(first, first + len(sequence))
    counted = accumulate(int(token != padding_id) for token in sequence.ids)
    return [-1 if token == padding_id else count - 1 for token, count in zip(sequence.ids, counted, strict=True)]


def _row(values: chain[int]) -> torch.Tensor:
    return torch.tensor(list(values), dtype=torch.long)
