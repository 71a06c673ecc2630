"""Attention over packed batches: sequences lie end to end in one row, and each attends to itself alone.

transformers' own layers call it under the name IMPLEMENTATION. The base model gets `spans` as an extra keyword, which
its layers hand down untouched; there is no mask, because sequences never meet.
"""

from __future__ import annotations

from typing import Any

import torch
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface, AttentionMaskInterface

IMPLEMENTATION = "rerankd_packed"

Spans = list[tuple[int, int, int]]
"""(start, count, length): from row `start`, `count` neighbours of `length` rows each. They share one call."""


def packed_attention(
    module: torch.nn.Module,
    query: torch.Tensor,  # [1, heads, rows, head_dim]
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    *,
    spans: Spans,
    scaling: float | None = None,
    **_: Any,
) -> tuple[torch.Tensor, None]:
    """The attention output [1, rows, heads, head_dim], and None for the weights that nobody keeps."""
    heads, rows, width = query.shape[1:]
    output = query.new_empty(rows, heads, width)
    for start, count, length in spans:
        stop = start + count * length
        q, k, v = (
            part[0, :, start:stop].unflatten(1, (count, length)).transpose(0, 1)  # [count, heads, length, head_dim]
            for part in (query, key, value)
        )
        attended = scaled_dot_product_attention(q, k, v, scale=scaling)
        output[start:stop].unflatten(0, (count, length)).copy_(attended.transpose(1, 2))
    return output.unsqueeze(0), None


def _no_mask(*_: Any, **__: Any) -> None:
    return None


AttentionInterface.register(IMPLEMENTATION, packed_attention)
AttentionMaskInterface.register(IMPLEMENTATION, _no_mask)
