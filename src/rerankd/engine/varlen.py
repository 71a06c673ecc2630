"""Attention of a whole packed batch in one call, on CUDA: torch's own variable-length flash attention.

Not yet measured: no GPU was at hand. What goes into the call is tested on a CPU, with the call itself replaced.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from rerankd.engine.attention import Span

DTYPES = (torch.bfloat16, torch.float16)


def takes(query: torch.Tensor, spans: Sequence[Span]) -> bool:
    """Whether the batch can be computed so: half precision on CUDA, and no sequence that sees or keeps others' keys."""
    alone = all(span.before is None and span.keep is None for span in spans)
    return alone and query.device.type == "cuda" and query.dtype in DTYPES


def attend(
    query: torch.Tensor,  # [heads, rows, head_dim]
    key: torch.Tensor,  # [kv_heads, rows, head_dim]
    value: torch.Tensor,
    spans: Sequence[Span],
    scale: float,
    causal: bool,
    window: int | None,
) -> torch.Tensor:
    """The attention output [rows, heads, head_dim]; rows behind the last span are one more sequence, which nobody reads."""
    from torch.nn.attention.varlen import varlen_attn

    rows = query.shape[1]
    bounds = [0, *(span.stop for span in spans)]
    if bounds[-1] < rows:
        bounds.append(rows)
    starts = torch.tensor(bounds, dtype=torch.int32, device=query.device)
    longest = max(stop - start for start, stop in itertools.pairwise(bounds))
    attended: Any = varlen_attn(
        query.transpose(0, 1).contiguous(),
        key.transpose(0, 1).contiguous(),
        value.transpose(0, 1).contiguous(),
        starts,
        starts,
        longest,
        longest,
        scale=scale,
        window_size=sides(causal, window),
        enable_gqa=query.shape[0] != key.shape[0],
        num_splits=1,  # one order of adding, whatever the batch: the same pair gets the same bits
    )
    return attended  # type: ignore[no-any-return]


def sides(causal: bool, window: int | None) -> tuple[int, int]:
    """How many rows one sees to its left and to its right; -1 means all. A `window` counts the row itself."""
    reach = -1 if window is None else window - 1
    return (reach, 0 if causal else reach)
