from __future__ import annotations

import pytest
import torch

from rerankd.engine.listwise_scores import scores


def test_two_blocks_meet_in_the_weighted_mean_of_their_queries() -> None:
    """By hand: w = (1, 0.75); Q = (1·(2, 0) + 0.75·(0, 4)) / 1.75 = (8, 12) / 7; |Q| = √208 / 7."""
    half = 3**0.5 / 2
    first = torch.tensor([[5.0, 0.0], [0.0, 3.0], [2.0, 0.0]])  # cosines with the query behind them: 1 and 0
    second = torch.tensor([[half, 0.5], [0.0, -1.0], [0.0, 4.0]])  # cosines 0.5 and -1
    root = 208**0.5
    expected = [8 / root, 12 / root, (8 * half + 6) / root, -12 / root]
    assert scores([first, second]) == pytest.approx(expected, abs=1e-6)


def test_one_block_gives_plain_cosines() -> None:
    block = torch.randn(9, 512, generator=torch.Generator().manual_seed(0))
    expected = torch.nn.functional.cosine_similarity(block[:-1], block[-1:]).tolist()
    assert scores([block]) == pytest.approx(expected, abs=1e-6)


def test_a_vector_of_zeros_scores_zero_and_spoils_nothing() -> None:
    block = torch.tensor([[0.0, 0.0], [3.0, 4.0], [3.0, 4.0]])
    assert scores([block]) == pytest.approx([0.0, 1.0])
    assert scores([torch.zeros(2, 2)]) == [0.0]


def test_bfloat16_vectors_are_averaged_in_float32() -> None:
    blocks = [torch.randn(4, 64, generator=torch.Generator().manual_seed(seed)).bfloat16() for seed in range(3)]
    assert scores(blocks) == pytest.approx(scores([block.float() for block in blocks]), abs=1e-3)
