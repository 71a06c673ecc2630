"""What goes into the CUDA call, with the call itself replaced by plain attention of each sequence on a CPU."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch
from torch.nn.functional import scaled_dot_product_attention

from rerankd.engine import varlen
from rerankd.engine.attention import Span, attend


def plain(query: Any, key: Any, value: Any, starts: Any, _: Any, longest: int, __: int, **how: Any) -> torch.Tensor:
    """What varlen_attn promises, by torch's own attention with a mask for each sequence."""
    bounds = starts.tolist()
    assert longest == max(stop - start for start, stop in itertools.pairwise(bounds))
    left, right = how["window_size"]
    output = torch.zeros_like(query)
    for start, stop in itertools.pairwise(bounds):
        own = torch.arange(stop - start)
        distance = own.unsqueeze(1) - own.unsqueeze(0)  # how far a key lies to the left
        seen = (distance <= left if left >= 0 else torch.ones_like(distance, dtype=torch.bool)) & (
            -distance <= right if right >= 0 else torch.ones_like(distance, dtype=torch.bool)
        )
        q, k, v = (part[start:stop].transpose(0, 1) for part in (query, key, value))
        made = scaled_dot_product_attention(q, k, v, attn_mask=seen, scale=how["scale"], enable_gqa=how["enable_gqa"])
        output[start:stop] = made.transpose(0, 1)
    return output


@pytest.mark.parametrize(("causal", "window"), [(False, None), (True, None), (True, 5), (False, 5)])
def test_one_call_for_a_batch_says_what_a_call_for_each_sequence_says(
    causal: bool, window: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torch.nn.attention.varlen.varlen_attn", plain)
    query, key, value = torch.randn(4, 64, 8), torch.randn(2, 64, 8), torch.randn(2, 64, 8)
    spans = [Span(0, 7), Span(7, 37), Span(37, 38), Span(38, 50)]
    whole = varlen.attend(query, key, value, spans, 0.3, causal, window)
    for span in spans:
        alone = torch.empty(len(span), 4, 8)
        attend(query[:, span.rows], key[:, span.rows], value[:, span.rows], alone, 0.3, causal=causal, window=window)
        torch.testing.assert_close(whole[span.rows], alone)


def test_it_is_for_half_precision_on_cuda_and_sequences_that_stand_alone() -> None:
    meta = torch.empty(1, 2, 4, 8, device="meta", dtype=torch.bfloat16)
    assert not varlen.takes(torch.empty(1, 2, 4, 8, dtype=torch.bfloat16), [Span(0, 4)])
    assert not varlen.takes(meta, [Span(0, 4, before={})])
