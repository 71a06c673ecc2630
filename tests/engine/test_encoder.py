from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from rerankd.engine.encoder import PackedEncoder, first_rows, mean_rows
from rerankd.engine.packing import PackedBatch, TokenSequence, pack
from rerankd.engine.scorer import Watch
from rerankd.errors import DeadlineExceeded


class Counting:
    """A base model whose hidden state is the token's id, and which counts the rows that it was given."""

    def __init__(self) -> None:
        self.rows = 0
        self.positions: list[int] = []

    def __call__(self, *, input_ids: torch.Tensor, position_ids: torch.Tensor, **_: Any) -> SimpleNamespace:
        self.rows += input_ids.shape[1]
        self.positions += position_ids[0].tolist()
        return SimpleNamespace(last_hidden_state=input_ids.unsqueeze(-1).float())


def encoder(base: Any, first_position: int = 0) -> PackedEncoder:
    return PackedEncoder(base, first_position, torch.device("cpu"))


def sequences(*ids: list[int]) -> list[TokenSequence]:
    return [TokenSequence(one, [0] * len(one)) for one in ids]


def test_rows_come_back_in_the_callers_order() -> None:
    rows = encoder(Counting()).rows(sequences([7, 1, 1], [5], [9, 2]), first_rows, Watch())
    assert rows[:, 0].tolist() == [7, 5, 9]


def test_equal_sequences_are_computed_once() -> None:
    base = Counting()
    rows = encoder(base).rows(sequences([7, 1], [5], [7, 1], [7, 1]), first_rows, Watch())
    assert rows[:, 0].tolist() == [7, 5, 7, 7]
    assert base.rows == 3


def test_positions_begin_where_the_model_begins() -> None:
    base = Counting()
    encoder(base, first_position=2).rows(sequences([7, 1, 1], [5]), first_rows, Watch())
    assert base.positions == [2, 2, 3, 4]


def test_means_are_taken_over_each_sequence_alone() -> None:
    (batch,) = pack(sequences([1, 3], [10], [5, 7], [2, 2, 8]), 100)
    hidden = batch.input_ids[0].unsqueeze(-1).float()
    assert mean_rows(hidden, batch)[:, 0].tolist() == [10, 2, 6, 4]


def test_nothing_more_is_computed_once_nobody_waits() -> None:
    base = Counting()
    with pytest.raises(DeadlineExceeded):
        encoder(base).rows(sequences([1]), _never, Watch(deadline=0.0))
    assert base.rows == 0


def _never(hidden: torch.Tensor, batch: PackedBatch) -> torch.Tensor:
    raise AssertionError
