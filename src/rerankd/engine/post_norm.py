"""BERT's and XLM-RoBERTa's layers, rebuilt from their own weights for speed: one product for query, key and value, residuals
and GELU inside the products, and a tile of rows taken through all of a layer's position-wise work while it is in cache.

It must say what transformers' layers say, to 1e-5 in float32; `supports` tells which configurations it knows.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import nn
from torch.nn.functional import layer_norm

from rerankd.engine.attention import Span, attend
from rerankd.engine.linear import HEIGHTS, TILE, TiledLinear, available, in_tiles, is_erf_gelu
from rerankd.engine.packing import PackedBatch
from rerankd.engine.short_attention import Group, ShortAttention, split

STEP = 4 * TILE
"""Rows of a layer after which short work may go first."""


def supports(base: Any) -> bool:
    """Whether `base` is such an encoder, on a CPU, with the exact GELU and absolute positions."""
    layers = getattr(getattr(base, "encoder", None), "layer", None)
    if not layers or not available() or base.device.type != "cpu":
        return False
    first = layers[0]
    known = type(first).__name__ in ("BertLayer", "XLMRobertaLayer", "RobertaLayer")
    return known and is_erf_gelu(first.intermediate.intermediate_act_fn) and not first.is_decoder


class PostNormLayers:
    """The layers of `base` as the steps of a `PackedEncoder`. The linear layers of `base` are taken apart and let go."""

    def __init__(self, base: Any, first_position: int, linear: type[TiledLinear] = TiledLinear) -> None:
        self._embeddings = base.embeddings
        self._first_position = first_position
        self._heads = base.config.num_attention_heads
        bfloat16 = base.dtype == torch.bfloat16
        self._short = ShortAttention(self._heads, base.config.hidden_size // self._heads) if bfloat16 else None
        self._layers = []
        for index, layer in enumerate(base.encoder.layer):
            self._layers.append(_Layer(layer, linear))
            base.encoder.layer[index] = nn.Identity()  # its weights are in the tiles now

        self.heights = tuple(height for height in HEIGHTS if all(height in layer.heights for layer in self._layers))
        """The heights of a batch, up to a tile, at which every layer gives the bits of a whole tile."""

    def __call__(self, batch: PackedBatch) -> Iterator[torch.Tensor | None]:
        hidden = self._embeddings(
            input_ids=batch.input_ids.unsqueeze(0),
            token_type_ids=batch.token_type_ids.unsqueeze(0),
            position_ids=(batch.position_ids + self._first_position).unsqueeze(0),
        )[0]
        qkv = torch.cat([self._layers[0].qkv.product(tile) for tile in hidden.split(TILE)])
        attended = torch.zeros_like(hidden)
        plan = self._plan(batch.spans)
        for layer, following in pairwise(self._layers):
            self._attend(qkv, attended, plan)
            for start in range(0, len(hidden), TILE):
                if start and start % STEP == 0:
                    yield None
                rows = slice(start, start + TILE)
                hidden[rows] = layer.mix(attended[rows], hidden[rows])
                qkv[rows] = following.qkv.product(hidden[rows])
            yield None
        self._attend(qkv, attended, plan)
        yield self._last(attended, hidden, batch.wanted)

    def _last(self, attended: torch.Tensor, hidden: torch.Tensor, wanted: torch.Tensor | None) -> torch.Tensor:
        """The hidden states behind the last layer; where only some are wanted, the others are those before it."""
        chosen = torch.arange(len(hidden)) if wanted is None else wanted
        parts = zip(in_tiles(attended[chosen], self.heights), in_tiles(hidden[chosen], self.heights), strict=True)
        for (place, attended_part), (_, hidden_part) in parts:
            rows = chosen[place]
            hidden[rows] = self._layers[-1].mix(attended_part, hidden_part)[: len(rows)]
        return hidden

    def _plan(self, spans: Sequence[Span]) -> tuple[list[Group], list[Span]]:
        """Groups of short sequences, and the sequences that are computed one by one."""
        if self._short is None:
            return [], list(spans)
        short, long = split(spans)
        return self._short.groups(short), long

    def _attend(self, qkv: torch.Tensor, attended: torch.Tensor, plan: tuple[list[Group], list[Span]]) -> None:
        groups, alone = plan
        width = attended.shape[1] // self._heads
        parts = qkv.view(len(qkv), 3, self._heads, width)
        output = attended.view(len(attended), self._heads, width)
        if self._short is not None:
            self._short.attend(parts, groups, output)
        for span in alone:
            query, key, value = parts[span.rows].permute(1, 2, 0, 3)
            attend(query, key, value, output[span.rows], width**-0.5)


class _Layer:
    def __init__(self, layer: Any, linear: type[TiledLinear]) -> None:
        attention, output = layer.attention.self, layer.attention.output
        parts = (attention.query, attention.key, attention.value)
        self.qkv = linear(torch.cat([part.weight for part in parts]), torch.cat([part.bias for part in parts]))
        self.out = linear(output.dense.weight, output.dense.bias, combine="add")
        self.up = linear(layer.intermediate.dense.weight, layer.intermediate.dense.bias, "gelu")
        self.down = linear(layer.output.dense.weight, layer.output.dense.bias, combine="add")
        self.norm = output.LayerNorm
        self.last_norm = layer.output.LayerNorm

    @property
    def heights(self) -> set[int]:
        return set.intersection(*(set(product.heights) for product in (self.qkv, self.out, self.up, self.down)))

    def mix(self, attended: torch.Tensor, hidden: torch.Tensor) -> torch.Tensor:
        """What the layer makes of a tile of rows behind its attention."""
        rows = _normed(self.norm, self.out.combined(attended, hidden))
        return _normed(self.last_norm, self.down.combined(self.up.product(rows), rows))


def _normed(norm: nn.LayerNorm, rows: torch.Tensor) -> torch.Tensor:
    return layer_norm(rows, norm.normalized_shape, norm.weight, norm.bias, norm.eps)
