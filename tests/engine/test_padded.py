from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from transformers import DebertaV2Config, DebertaV2ForSequenceClassification

from rerankd.engine.padded import Inputs, PaddedEncoder, padded_length
from rerankd.engine.scorer import Watch, drain
from rerankd.engine.sequences import TokenSequence


@given(st.integers(1, 10_000))
def test_a_length_is_padded_by_less_than_a_step(length: int) -> None:
    padded = padded_length(length)
    assert padded >= length
    assert padded < length + max(16, length / 4)
    assert padded_length(padded) == padded


class Recorded:
    """A model of random weights, and the inputs that it was asked with."""

    def __init__(self, longest: int = 64, *, masks: bool = True) -> None:
        torch.manual_seed(0)
        config = DebertaV2Config(vocab_size=50, hidden_size=16, num_hidden_layers=1, num_attention_heads=2)
        config.num_labels = 1
        self.model: Any = DebertaV2ForSequenceClassification(config).eval()
        self.asked: list[Inputs] = []
        self.runner = PaddedEncoder(self.model, self.ask, longest, masks=masks)

    def ask(self, inputs: Inputs) -> torch.Tensor:
        self.asked.append(inputs)
        return inputs["input_ids"][:, :1].double()

    def run(self, sequences: Sequence[TokenSequence]) -> list[float]:
        return [result.item() for result in drain(self.runner.run(sequences), Watch())]


def sequences(*lengths: int) -> list[TokenSequence]:
    """Each of its place's number."""
    return [TokenSequence([place + 2] * length) for place, length in enumerate(lengths)]


def test_results_come_back_in_the_callers_order() -> None:
    assert Recorded().run(sequences(30, 3, 60, 17, 4)) == [2, 3, 4, 5, 6]


def test_a_length_has_one_shape_whatever_there_is_to_do() -> None:
    recorded = Recorded()
    recorded.run(sequences(3))
    recorded.run(sequences(*[5] * 40, 20))
    assert {tuple(inputs["input_ids"].shape) for inputs in recorded.asked} == {(32, 16), (16, 32)}


def test_padding_is_masked() -> None:
    recorded = Recorded()
    recorded.run(sequences(3, 14))
    assert recorded.asked[-1]["attention_mask"].sum(1).tolist() == [3, 14, *[3] * 30]


def test_no_sequence_is_padded_beyond_the_longest() -> None:
    recorded = Recorded(longest=20)
    recorded.run(sequences(20))
    assert recorded.asked[-1]["input_ids"].shape[1] == 20


def test_others_may_go_on_between_two_batches() -> None:
    assert sum(1 for _ in Recorded().runner.run(sequences(*[5] * 33, 20))) == 3


def test_a_model_that_does_not_mask_gets_sequences_one_by_one_and_no_padding() -> None:
    recorded = Recorded(masks=False)
    recorded.run(sequences(3, 5, 5))
    assert [tuple(inputs["input_ids"].shape) for inputs in recorded.asked] == [(1, 3), (1, 5), (1, 5)]
    assert not any("attention_mask" in inputs for inputs in recorded.asked)


def test_where_bits_depend_on_the_place_sequences_run_alone() -> None:
    class Slanted(nn.Module):
        """Its first row comes out a little larger."""

        def forward(self, rows: torch.Tensor) -> torch.Tensor:
            slant = torch.ones(len(rows), 1, 1)
            slant[0] = 1.0001
            return rows * slant

    recorded = Recorded()
    recorded.model.deberta.embeddings.LayerNorm = nn.Sequential(recorded.model.deberta.embeddings.LayerNorm, Slanted())
    recorded.runner._ask = lambda inputs: recorded.model(**inputs).logits
    recorded.run(sequences(3, 4))
    assert recorded.runner._rows == {16: 1}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_results_do_not_depend_on_company(dtype: torch.dtype) -> None:
    recorded = Recorded()
    recorded.model.to(dtype)
    recorded.runner._ask = lambda inputs: recorded.model(**inputs).logits
    generator = torch.Generator().manual_seed(0)
    lengths = [1, 15, 16, 17, 30, 33, 47, 48, 49, 64, 64, 5, 5, 5]
    texts = [TokenSequence(torch.randint(50, (length,), generator=generator).tolist()) for length in lengths]
    together = recorded.run(texts)
    assert [recorded.run([text])[0] for text in texts] == together
