"""Layers of encoders with rotary positions and a gated MLP, ModernBERT's and GTE's, rebuilt from their own weights for speed
and for equal bits: activations and residuals inside the products, a tile of rows at a time through what is position-wise.

Outside of the products everything is done row by row or in exact steps, so that a row's bits do not depend on its company.
It must say what transformers' layers say, to 1e-5 in float32; `supports` tells which configurations it knows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import nn

from rerankd.engine.attention import Span, attend
from rerankd.engine.linear import HEIGHTS, PREPACKED_DTYPES, TILE, TiledLinear, available, in_tiles, is_erf_gelu
from rerankd.engine.packing import PackedBatch
from rerankd.engine.pre_norm import turned
from rerankd.engine.rotary import RotaryTable

Rows = Callable[[torch.Tensor], torch.Tensor]
"""Something that is done to rows [rows, width], to each by itself."""
SAME: Rows = nn.Identity()
Weights = tuple[torch.Tensor, "torch.Tensor | None"]
"""A product's weight [out, in] and bias [out]."""
Tile = tuple[torch.Tensor, torch.Tensor, torch.Tensor]
"""Queries, keys and values of some rows, each [heads, rows, head_dim]."""


def supports(base: Any, activation: object) -> bool:
    """Whether `base`, whose MLPs have this activation, can be rebuilt here: the exact GELU, on a CPU."""
    on_cpu = base.device.type == "cpu" and base.dtype in PREPACKED_DTYPES
    return on_cpu and available() and is_erf_gelu(activation)


class RotaryLayer:
    """x = after_attention(x + out(attention(before_attention(x)))), then y = after_mlp(x + down(gelu(gate) * up)), the gate
    and `up` being products with before_mlp(x). A norm that a model lacks is the identity.
    """

    def __init__(
        self,
        *,
        qkv: Weights,
        out: Weights,
        gate: Weights,
        up: Weights,
        down: Weights,
        rotary: RotaryTable,
        before_attention: Rows = SAME,
        after_attention: Rows = SAME,
        before_mlp: Rows = SAME,
        after_mlp: Rows = SAME,
        window: int | None = None,
    ) -> None:
        self.qkv = TiledLinear(*qkv)
        self.out = TiledLinear(*out, combine="add")
        self.gate = TiledLinear(*gate, "gelu")
        self.up = TiledLinear(*up, combine="mul")
        self.down = TiledLinear(*down, combine="add")
        self.rotary = rotary
        self.before_attention, self.after_attention = before_attention, after_attention
        self.before_mlp, self.after_mlp = before_mlp, after_mlp
        self.window = window

    @property
    def heights(self) -> set[int]:
        products = (self.qkv, self.out, self.gate, self.up, self.down)
        return set.intersection(*(set(product.heights) for product in products))

    def project(self, hidden: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor, into: Tile) -> None:
        """Write a tile's queries, keys and values; cos and sin are [rows, 1, head_dim]."""
        heads, _, width = into[0].shape
        query, key, value = self.qkv.product(self.before_attention(hidden)).view(-1, 3, heads, width).unbind(1)
        into[0].copy_(turned(query, cos, sin).transpose(0, 1))
        into[1].copy_(turned(key, cos, sin).transpose(0, 1))
        into[2].copy_(value.transpose(0, 1))

    def mix(self, attended: torch.Tensor, hidden: torch.Tensor) -> torch.Tensor:
        """What the layer makes of a tile of rows behind its attention."""
        rows = self.after_attention(self.out.combined(attended, hidden))
        inner = self.before_mlp(rows)
        return self.after_mlp(self.down.combined(self.up.combined(inner, self.gate.product(inner)), rows))


class RotaryLayers:
    """The layers as the steps of a `PackedEncoder`; `embed` gives the first hidden states [rows, hidden_size]."""

    def __init__(
        self,
        embed: Callable[[PackedBatch], torch.Tensor],
        layers: Sequence[RotaryLayer],
        heads: int,
        last_norm: Rows = SAME,
    ) -> None:
        self._embed = embed
        self._layers = layers
        self._heads = heads
        self._last_norm = last_norm
        self.heights = tuple(height for height in HEIGHTS if all(height in layer.heights for layer in layers))
        """The heights of a batch, up to a tile, at which every layer gives the bits of a whole tile."""

    def __call__(self, batch: PackedBatch) -> Iterator[torch.Tensor | None]:
        hidden = self._embed(batch)
        rows, width = hidden.shape[0], hidden.shape[1] // self._heads
        query, key, value = (hidden.new_empty(self._heads, rows, width) for _ in range(3))
        attended = hidden.new_zeros(rows, self._heads, width)
        angles = {table: table.at(batch.position_ids) for table in {layer.rotary for layer in self._layers}}
        tiles = [slice(start, start + TILE) for start in range(0, rows, TILE)]
        for layer in self._layers:
            cos, sin = (table.unsqueeze(1) for table in angles[layer.rotary])
            for tile in tiles:
                layer.project(hidden[tile], cos[tile], sin[tile], (query[:, tile], key[:, tile], value[:, tile]))
                yield None
            for span in batch.spans:
                yield from _attend(layer, span, (query, key, value), attended)
            if layer is self._layers[-1] and batch.wanted is not None:
                self._last(attended.flatten(1), hidden, batch.wanted)
                break
            for tile in tiles:
                hidden[tile] = layer.mix(attended[tile].flatten(1), hidden[tile])
                yield None
        yield self._last_norm(hidden)

    def _last(self, attended: torch.Tensor, hidden: torch.Tensor, wanted: torch.Tensor) -> None:
        """Put the last layer's hidden states into the rows that are wanted; the others stay those before it."""
        parts = zip(in_tiles(attended[wanted], self.heights), in_tiles(hidden[wanted], self.heights), strict=True)
        for (place, attended_part), (_, hidden_part) in parts:
            rows = wanted[place]
            hidden[rows] = self._layers[-1].mix(attended_part, hidden_part)[: len(rows)]


def _attend(layer: RotaryLayer, span: Span, parts: Tile, attended: torch.Tensor) -> Iterator[None]:
    query, key, value = (part[:, span.rows] for part in parts)
    attend(query, key, value, attended[span.rows], query.shape[-1] ** -0.5, window=layer.window)
    if len(span) > TILE:
        yield None
