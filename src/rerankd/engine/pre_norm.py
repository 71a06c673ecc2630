"""Qwen2's and Qwen3's decoder layers, rebuilt from their weights for speed: one product for query, key and value, the gated
MLP and the residuals inside the products, and a tile of rows taken through all of a layer's position-wise work while it is
in cache.

It must say what transformers' layers say, to 1e-5 in float32; `supports` tells which configurations it knows.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import nn

from rerankd.engine.attention import Span, attend, seen
from rerankd.engine.linear import HEIGHTS, TILE, TiledLinear, available, in_tiles
from rerankd.engine.packing import PackedBatch
from rerankd.engine.rotary import RotaryTable


def supports(base: Any) -> bool:
    """Whether `base` is such a decoder on a CPU."""
    known = type(base).__name__ in ("Qwen2Model", "Qwen3Model")
    return known and available() and base.device.type == "cpu" and base.config.hidden_act == "silu"


class PreNormLayers:
    """The layers of `base` as the steps of a `PackedDecoder`, the last norm apart. Its linear layers are let go."""

    def __init__(self, base: Any, linear: type[TiledLinear] = TiledLinear) -> None:
        config = base.config
        self._embeddings = base.embed_tokens
        self._rotary = RotaryTable(base.rotary_emb)
        self._width = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
        self._heads, self._kv_heads = config.num_attention_heads, config.num_key_value_heads
        self._layers = []
        for index, layer in enumerate(base.layers):
            self._layers.append(_Layer(layer, linear))
            base.layers[index] = nn.Identity()  # its weights are in the tiles now
        self.norm = base.norm
        self.heights = tuple(height for height in HEIGHTS if all(height in layer.heights for layer in self._layers))
        """The heights of a batch, up to a tile, at which every layer gives the bits of a whole tile."""

    def __call__(self, batch: PackedBatch) -> Iterator[torch.Tensor | None]:
        hidden = self._embeddings(batch.input_ids)
        cos, sin = (table.unsqueeze(1) for table in self._rotary.at(batch.position_ids))
        rows = len(hidden)
        query = hidden.new_empty(self._heads, rows, self._width)
        key = hidden.new_empty(self._kv_heads, rows, self._width)
        value = hidden.new_empty(self._kv_heads, rows, self._width)
        attended = hidden.new_zeros(rows, self._heads, self._width)
        tiles = [slice(start, start + TILE) for start in range(0, rows, TILE)]
        for index, layer in enumerate(self._layers):
            for tile in tiles:
                self._project(layer, hidden[tile], cos[tile], sin[tile], (query[:, tile], key[:, tile], value[:, tile]))
                yield None
            yield from self._attend(index, layer, (query, key, value), attended, batch.spans)
            if layer is self._layers[-1] and batch.wanted is not None:
                self._last(attended.flatten(1), hidden, batch.wanted)
                break
            for tile in tiles:
                hidden[tile] = layer.mix(attended[tile].flatten(1), hidden[tile])
                yield None
        yield hidden

    def _last(self, attended: torch.Tensor, hidden: torch.Tensor, wanted: torch.Tensor) -> None:
        """Put the last layer's hidden states into the rows that are wanted; the others stay those before it."""
        parts = zip(in_tiles(attended[wanted], self.heights), in_tiles(hidden[wanted], self.heights), strict=True)
        for (place, attended_part), (_, hidden_part) in parts:
            rows = wanted[place]
            hidden[rows] = self._layers[-1].mix(attended_part, hidden_part)[: len(rows)]

    def _project(
        self, layer: _Layer, hidden: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor, into: tuple[torch.Tensor, ...]
    ) -> None:
        """Write a tile's queries, keys and values [heads, rows, head_dim]."""
        made = layer.qkv.product(layer.first_norm(hidden)).view(len(hidden), -1, self._width)
        query, key, value = made.split((self._heads, self._kv_heads, self._kv_heads), dim=1)
        into[0].copy_(turned(layer.query_norm(query), cos, sin).transpose(0, 1))
        into[1].copy_(turned(layer.key_norm(key), cos, sin).transpose(0, 1))
        into[2].copy_(value.transpose(0, 1))

    def _attend(
        self,
        index: int,
        layer: _Layer,
        parts: tuple[torch.Tensor, torch.Tensor, torch.Tensor],
        attended: torch.Tensor,
        spans: Sequence[Span],
    ) -> Iterator[None]:
        query, key, value = parts
        for span in spans:
            keys, values = seen(index, span, key[:, span.rows], value[:, span.rows])
            attend(
                query[:, span.rows],
                keys,
                values,
                attended[span.rows],
                self._width**-0.5,
                causal=True,
                window=layer.window,
            )
            if len(span) > TILE:
                yield None


class _Layer:
    def __init__(self, layer: Any, linear: type[TiledLinear]) -> None:
        attention, mlp = layer.self_attn, layer.mlp
        parts = (attention.q_proj, attention.k_proj, attention.v_proj)
        bias = None if parts[0].bias is None else torch.cat([part.bias for part in parts])
        self.qkv = linear(torch.cat([part.weight for part in parts]), bias)
        self.out = linear(attention.o_proj.weight, attention.o_proj.bias, combine="add")
        self.gate = linear(mlp.gate_proj.weight, mlp.gate_proj.bias, "swish")
        self.up = linear(mlp.up_proj.weight, mlp.up_proj.bias, combine="mul")
        self.down = linear(mlp.down_proj.weight, mlp.down_proj.bias, combine="add")
        self.first_norm = RootMeanSquare(layer.input_layernorm)
        self.second_norm = RootMeanSquare(layer.post_attention_layernorm)
        self.query_norm = RootMeanSquare(attention.q_norm) if hasattr(attention, "q_norm") else nn.Identity()
        self.key_norm = RootMeanSquare(attention.k_norm) if hasattr(attention, "k_norm") else nn.Identity()
        self.window: int | None = getattr(attention, "sliding_window", None)

    @property
    def heights(self) -> set[int]:
        products = (self.qkv, self.out, self.gate, self.up, self.down)
        return set.intersection(*(set(product.heights) for product in products))

    def mix(self, attended: torch.Tensor, hidden: torch.Tensor) -> torch.Tensor:
        """What the layer makes of a tile of rows behind its attention."""
        rows = self.out.combined(attended, hidden)
        normed = self.second_norm(rows)
        return self.down.combined(self.up.combined(normed, self.gate.product(normed)), rows)


class RootMeanSquare:
    """RMSNorm in float32 over the last dimension: x / sqrt(mean(x^2) + eps) * weight (Zhang and Sennrich 2019, eq. 4)."""

    def __init__(self, norm: Any) -> None:
        self._weight = norm.weight.detach()
        self._eps = norm.variance_epsilon

    def __call__(self, rows: torch.Tensor) -> torch.Tensor:
        wide = rows.float()
        scale = torch.rsqrt(wide.square().mean(-1, keepdim=True).add_(self._eps))
        return torch.mul(wide, scale, out=torch.empty_like(rows)).mul_(self._weight)


def turned(heads: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    """`heads` [rows, heads, head_dim] turned by their positions' angles; cos and sin [rows, 1, head_dim]."""
    half = heads.shape[-1] // 2
    wide = heads.float()
    result = wide * cos
    result[..., :half].addcmul_(wide[..., half:], sin[..., :half], value=-1)
    result[..., half:].addcmul_(wide[..., :half], sin[..., half:])
    return result
