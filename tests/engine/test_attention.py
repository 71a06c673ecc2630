from __future__ import annotations

import pytest
import torch

from rerankd.engine.attention import Spans, packed_attention


@pytest.mark.parametrize("spans", [[(0, 1, 7)], [(0, 3, 1), (3, 2, 5), (13, 1, 8)]])
def test_each_sequence_attends_to_itself_alone(spans: Spans) -> None:
    torch.manual_seed(0)
    rows = sum(count * length for _, count, length in spans)
    query, key, value = (torch.randn(1, 4, rows, 8) for _ in range(3))
    output, weights = packed_attention(torch.nn.Identity(), query, key, value, None, spans=spans, scaling=0.25)
    assert weights is None
    assert output.shape == (1, rows, 4, 8)
    for start, count, length in spans:
        for one in range(start, start + count * length, length):
            q, k, v = (part[0, :, one : one + length] for part in (query, key, value))
            expected = torch.softmax(q @ k.transpose(1, 2) * 0.25, dim=-1) @ v
            assert torch.allclose(output[0, one : one + length], expected.transpose(0, 1), atol=1e-5)
