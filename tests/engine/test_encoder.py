from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from rerankd.engine.attention import Span
from rerankd.engine.encoder import HEAD_ROWS, PackedEncoder, by_head_rows, first_rows, mean_rows, whole_model
from rerankd.engine.packing import PackedBatch, pack
from rerankd.engine.scorer import Watch, drain, run_all
from rerankd.engine.sequences import TokenSequence
from rerankd.errors import DeadlineExceeded


class Counting:
    """Layers whose hidden state is the token's id, in two steps, and which remember their batches."""

    def __init__(self) -> None:
        self.batches: list[PackedBatch] = []

    def __call__(self, batch: PackedBatch) -> Iterator[torch.Tensor | None]:
        self.batches.append(batch)
        yield None
        yield batch.input_ids.unsqueeze(1).float()


def encoder(layers: Any, pool: Any = first_rows) -> PackedEncoder:
    return PackedEncoder(layers, pool, lambda rows: rows * 10)


def sequences(*ids: list[int]) -> list[TokenSequence]:
    return [TokenSequence(one) for one in ids]


def run(runner: PackedEncoder, *ids: list[int]) -> list[list[float]]:
    return [result.tolist() for result in drain(runner.run(sequences(*ids)), Watch())]


def test_each_sequence_gets_what_the_head_makes_of_its_first_row() -> None:
    assert run(encoder(Counting()), [7, 1, 1], [5], [9, 2]) == [[70], [50], [90]]


def test_or_of_the_mean_of_its_rows() -> None:
    assert run(encoder(Counting(), mean_rows), [7, 1, 1], [5], [9, 2]) == [[30], [50], [55]]


def test_only_the_rows_that_are_pooled_are_asked_for() -> None:
    first, every = Counting(), Counting()
    run(encoder(first), [7, 1, 1], [5], [9, 2])
    run(encoder(every, mean_rows), [7, 1, 1], [5])
    wanted = first.batches[0].wanted
    assert wanted is not None
    assert wanted.tolist() == [0, 3, 4]
    assert every.batches[0].wanted is None


def test_other_work_may_run_between_two_steps_of_a_batch() -> None:
    steps = encoder(Counting()).run(sequences([1]))
    next(steps)
    assert not torch.is_inference_mode_enabled()
    steps.close()


def test_nothing_more_is_computed_once_nobody_waits() -> None:
    layers = Counting()
    with pytest.raises(DeadlineExceeded):
        run_all(encoder(layers), sequences([1]), Watch(deadline=0.0))
    assert layers.batches == []


def test_a_head_always_sees_the_same_number_of_rows() -> None:
    seen = []

    def head(rows: torch.Tensor) -> torch.Tensor:
        seen.append(len(rows))
        return rows + 1

    rows = torch.arange(40.0).unsqueeze(1)
    assert torch.equal(by_head_rows(head, rows), rows + 1)
    assert seen == [HEAD_ROWS] * 3


def test_means_are_taken_over_each_sequence_alone() -> None:
    hidden = torch.tensor([[1.0], [3.0], [10.0], [99.0]])
    assert mean_rows(hidden, [Span(0, 2), Span(2, 3)]).tolist() == [[2.0], [10.0]]


class Base:
    """A transformers model that says with what it was called."""

    def __init__(self, **config: Any) -> None:
        self.config = SimpleNamespace(**config)
        self.called: dict[str, Any] = {}

    def __call__(self, **arguments: Any) -> SimpleNamespace:
        self.called = arguments
        return SimpleNamespace(last_hidden_state=arguments["input_ids"].unsqueeze(-1).float())


def test_a_whole_model_is_told_positions_from_its_first_on_and_the_spans() -> None:
    base: Any = Base(type_vocab_size=2)
    batch = pack([TokenSequence([7, 1, 1], [0, 1, 1]), TokenSequence([5])])
    (hidden,) = whole_model(base, 2, torch.device("cpu"))(batch)
    assert hidden is not None
    assert hidden[:4, 0].tolist() == [7, 1, 1, 5]
    assert base.called["position_ids"][0, :4].tolist() == [2, 3, 4, 2]
    assert base.called["token_type_ids"][0, :4].tolist() == [0, 1, 1, 0]
    assert base.called["spans"] is batch.spans


def test_a_model_without_token_types_is_not_told_of_any() -> None:
    for config in ({}, {"type_vocab_size": 0}, {"type_vocab_size": None}):
        base: Any = Base(**config)
        list(whole_model(base, 0, torch.device("cpu"))(pack([TokenSequence([1])])))
        assert "token_type_ids" not in base.called
