"""Attention over packed batches: sequences lie end to end in one row, and each attends to itself alone, or its prefix too.

transformers' own layers call it under the name IMPLEMENTATION. The base model gets `spans` as an extra keyword, which its
layers hand down untouched; there is no mask, because sequences never meet. Each sequence is computed by itself, in calls
whose shapes depend on its length alone, so that its bits do not depend on its company.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
from torch.nn.functional import pad, scaled_dot_product_attention
from transformers import AttentionInterface, AttentionMaskInterface

from rerankd.engine import varlen

IMPLEMENTATION = "rerankd_packed"

WEIGHTS_AT_ONCE = 2**21
"""Attention weights that are held at a time; 4 MiB of bfloat16 stay in cache."""
VECTOR = 32
"""bfloat16 numbers in a vector of the processor: torch's softmax takes what is left over one by one, 20 times as slowly."""
BLOCK, SMALLEST_BLOCK = 512, 128
"""Rows that are computed at a time where not every row sees every other: what none of them sees is left out."""

KeysAndValues = dict[int, tuple[torch.Tensor, torch.Tensor]]
"""Of some tokens, by layer, each [kv_heads, tokens, head_dim]."""


@dataclass(frozen=True, slots=True)
class Span:
    """The rows of one sequence in a packed batch. `before` are keys and values of tokens that it also sees; into `keep` its
    own are put.
    """

    start: int
    stop: int
    before: KeysAndValues | None = None
    keep: KeysAndValues | None = None

    def __len__(self) -> int:
        return self.stop - self.start

    @property
    def rows(self) -> slice:
        return slice(self.start, self.stop)


def packed_attention(
    module: torch.nn.Module,
    query: torch.Tensor,  # [1, heads, rows, head_dim]
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    *,
    spans: Sequence[Span],
    scaling: float | None = None,
    sliding_window: int | None = None,
    is_causal: bool | None = None,
    **_: Any,
) -> tuple[torch.Tensor, None]:
    """The attention output [1, rows, heads, head_dim], and None for the weights that nobody keeps."""
    heads, rows, width = query.shape[1:]
    output = query.new_zeros(rows, heads, width)
    causal = bool(getattr(module, "is_causal", False) if is_causal is None else is_causal)
    layer = int(getattr(module, "layer_idx", 0) or 0)
    scale = width**-0.5 if scaling is None else scaling
    if varlen.takes(query, spans):
        return varlen.attend(query[0], key[0], value[0], spans, scale, causal, sliding_window).unsqueeze(0), None
    for span in spans:
        keys, values = seen(layer, span, key[0, :, span.rows], value[0, :, span.rows])
        attend(query[0, :, span.rows], keys, values, output[span.rows], scale, causal=causal, window=sliding_window)
    return output.unsqueeze(0), None


def seen(layer: int, span: Span, key: torch.Tensor, value: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The keys and values that the span's rows see, [kv_heads, tokens, head_dim]: its own, with those before them."""
    if span.keep is not None:
        span.keep[layer] = (key.clone(), value.clone())
    if span.before is None:
        return key, value
    before_key, before_value = span.before[layer]
    return torch.cat([before_key, key], dim=1), torch.cat([before_value, value], dim=1)


def attend(
    query: torch.Tensor,  # [heads, length, head_dim]
    key: torch.Tensor,  # [kv_heads, keys, head_dim], the last `length` of them the queries' own
    value: torch.Tensor,
    output: torch.Tensor,  # [length, heads, head_dim]
    scale: float,
    *,
    causal: bool = False,
    window: int | None = None,
) -> None:
    """Write the attention of one sequence to `output`.

    `window`, as transformers' flash attention counts it: a row sees itself and the `window` - 1 before it, and where it is
    not causal the `window` - 1 behind it too.
    """
    length, keys = query.shape[1], key.shape[1]
    products = by_products(query)
    if products:
        key, value = filled(key), filled(value)
    for rows, first, last, mask in _blocks(length, keys, query, causal, window, group=query.shape[0] // key.shape[0]):
        own, target = query[:, rows], output[rows]
        if products:
            stop = min(first + _rounded(last - first), key.shape[1])
            _by_products(own, key[:, first:stop], value[:, first:stop], target, scale, last - first, mask)
        else:
            _by_kernel(own, key[:, first:last], value[:, first:last], target, scale, mask)


def _blocks(
    length: int, keys: int, query: torch.Tensor, causal: bool, window: int | None, group: int
) -> Iterator[tuple[slice, int, int, torch.Tensor | None]]:
    """Blocks of rows, the first key that one of them sees and the one behind the last, and what is added to the scores of
    the last keys among these.
    """
    if not causal and (window is None or keys <= window):
        yield slice(0, length), 0, keys, None
        return
    own, reach = keys - length, keys if window is None else window - 1
    rows = _block_rows(group, keys)
    for start in range(0, length, rows):
        stop = min(start + rows, length)
        first = max(0, own + start - reach)
        last = own + stop if causal else min(keys, own + stop + reach)
        place, width = (0, stop - start) if window is None else (own + start - first, last - first)
        mask = _mask(stop - start, place, width, window, causal, query.dtype)
        yield slice(start, stop), first, last, mask.to(query.device)


def _block_rows(group: int, keys: int) -> int:
    """Rows of a block whose attention weights stay in cache, for `group` query heads to a head of keys."""
    return max(SMALLEST_BLOCK, min(BLOCK, WEIGHTS_AT_ONCE // (group * keys) // SMALLEST_BLOCK * SMALLEST_BLOCK))


@lru_cache(maxsize=64)
def _mask(rows: int, first: int, keys: int, window: int | None, causal: bool, dtype: torch.dtype) -> torch.Tensor:
    """Zero where a row sees a key, minus infinity elsewhere, [rows, keys]; row 0 is the key at `first`."""
    own = torch.arange(first, first + rows).unsqueeze(1)
    other = torch.arange(keys).unsqueeze(0)
    hidden = other > own if causal else torch.zeros(rows, keys, dtype=torch.bool)
    if window is not None:
        hidden = hidden | ((own - other).abs() >= window)
    return torch.zeros(rows, keys, dtype=dtype).masked_fill_(hidden, float("-inf"))


def _by_kernel(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    output: torch.Tensor,
    scale: float,
    mask: torch.Tensor | None,
) -> None:
    """By torch's own attention; `mask` [rows, last keys] hides some of the last keys."""
    attended = scaled_dot_product_attention(
        query.unsqueeze(0),
        key.unsqueeze(0),
        value.unsqueeze(0),
        attn_mask=None if mask is None else pad(mask, (key.shape[1] - mask.shape[1], 0)),
        scale=scale,
        enable_gqa=query.shape[0] != key.shape[0],
    )
    output.copy_(attended[0].transpose(0, 1))


def by_products(query: torch.Tensor) -> bool:
    """Whether two products and a softmax are faster than torch's own kernel: for bfloat16 on a CPU, twice from 100 rows."""
    return query.dtype == torch.bfloat16 and query.device.type == "cpu"


def _by_products(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    output: torch.Tensor,
    scale: float,
    seen: int,
    mask: torch.Tensor | None,
) -> None:
    """By two products and a softmax; of the keys the first `seen` count, but for what `mask` [rows, last of these] hides."""
    heads, length, width = query.shape
    kv_heads, keys = key.shape[:2]
    group = heads // kv_heads  # query heads that share one head of keys
    whole = _rounded(length)
    rows = query.new_zeros(kv_heads, group, whole, width)
    torch.mul(query.unflatten(0, (kv_heads, group)), scale, out=rows[:, :, :length])
    made = query.new_empty(kv_heads, group * whole, width)
    at_once = max(1, min(kv_heads, WEIGHTS_AT_ONCE // (group * whole * keys)))
    for first in range(0, kv_heads, at_once):
        part = slice(first, first + at_once)
        # One head at a time needs no copy: its rows lie one behind the other.
        scores = torch.bmm(rows[part].flatten(1, 2), key[part].contiguous().transpose(1, 2))
        scores[..., seen:] = float("-inf")
        if mask is not None:
            scores.unflatten(1, (group, whole))[:, :, :length, seen - mask.shape[1] : seen].add_(mask)
        torch.bmm(torch.softmax(scores, -1), value[part].contiguous(), out=made[part])
    output.copy_(made.view(heads, whole, width)[:, :length].transpose(0, 1))


def filled(part: torch.Tensor) -> torch.Tensor:
    """`part` [heads, rows, width] with rows of zeros behind it, up to a rounded length."""
    heads, rows, width = part.shape
    padded = part.new_empty(heads, _rounded(rows), width)
    padded[:, :rows] = part
    padded[:, rows:] = 0
    return padded


def _rounded(rows: int) -> int:
    """Few lengths in all: oneDNN keeps code and memory for each shape that it has met, some 300 KiB for each."""
    step = VECTOR if rows <= BLOCK else SMALLEST_BLOCK
    return -(-rows // step) * step


def _no_mask(*_: Any, **__: Any) -> None:
    return None


AttentionInterface.register(IMPLEMENTATION, packed_attention)
AttentionMaskInterface.register(IMPLEMENTATION, _no_mask)
