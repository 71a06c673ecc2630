"""ModernBERT cross-encoders (gte-reranker-modernbert and its kin): one logit from the first token or from the mean of all.

Two layers of three see 64 tokens to each side and no more; which layers, how far, and what is pooled says config.json.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from transformers import ModernBertConfig, ModernBertForSequenceClassification

from rerankd.engine.attention import Span
from rerankd.engine.checkpoint import Checkpoint
from rerankd.engine.encoder import Layers, PackedEncoder, Pool, first_rows, mean_rows, whole_model
from rerankd.engine.families.cross_encoder import one_label, score_kind
from rerankd.engine.families.recipe import Loading
from rerankd.engine.linear import HEIGHTS, tile_linears
from rerankd.engine.pair_encoding import own_pairs
from rerankd.engine.pairwise import Pairwise
from rerankd.engine.rotary import RotaryTable
from rerankd.engine.rotary_encoder import RotaryLayer, RotaryLayers, supports
from rerankd.engine.truncation import longest_first
from rerankd.engine.weights import load_model


def recognises(checkpoint: Checkpoint) -> bool:
    return checkpoint.architecture == "ModernBertForSequenceClassification"


def load(loading: Loading) -> Pairwise:
    """Raises `UnsupportedModel` where it has several labels, `LoadError` where files are damaged."""
    checkpoint = loading.checkpoint
    config = ModernBertConfig.from_dict(checkpoint.config)
    one_label(config, loading.source)
    length = checkpoint.max_length(config.max_position_embeddings, loading.max_length)
    encode = own_pairs(checkpoint, longest_first, length, token_types=0, query_limit=loading.max_query_length)
    model: Any = load_model(
        ModernBertForSequenceClassification, config, checkpoint, loading.placement, loading.progress
    )
    layers, heights = modernbert_layers(model.model)
    tile_linears(model)
    runner = PackedEncoder(layers, _pool(config), lambda rows: model.classifier(model.head(rows)).double(), heights)
    return Pairwise(loading.card("cross-encoder", score_kind(checkpoint.config), length), runner, encode)


def _pool(config: ModernBertConfig) -> Pool:
    if config.classifier_pooling == "cls":
        return first_rows

    def mean(hidden: torch.Tensor, spans: Sequence[Span]) -> torch.Tensor:
        return mean_rows(hidden, spans).to(hidden.dtype)

    return mean


def modernbert_layers(base: Any) -> tuple[Layers, tuple[int, ...]]:
    """The layers of a `ModernBertModel` as fast as they can be run here, and the batch heights that they want."""
    if not supports(base, base.layers[0].mlp.act):
        tile_linears(base)
        return whole_model(base, 0, base.device), HEIGHTS
    tables = {kind: _table(base.rotary_emb, kind) for kind in set(base.config.layer_types)}
    built = []
    for index, layer in enumerate(base.layers):
        built.append(_layer(layer, tables[layer.attention_type]))
        base.layers[index] = torch.nn.Identity()  # its weights are in the tiles now
    fast = RotaryLayers(
        lambda batch: base.embeddings(batch.input_ids), built, base.config.num_attention_heads, base.final_norm
    )
    return fast, fast.heights


def _table(rotary: Any, kind: str) -> RotaryTable:
    return RotaryTable(lambda rows, positions: rotary(rows, positions, kind))


def _layer(layer: Any, rotary: RotaryTable) -> RotaryLayer:
    attention, mlp = layer.attn, layer.mlp
    (gate, up), biases = mlp.Wi.weight.chunk(2), (None, None) if mlp.Wi.bias is None else mlp.Wi.bias.chunk(2)
    return RotaryLayer(
        qkv=(attention.Wqkv.weight, attention.Wqkv.bias),
        out=(attention.Wo.weight, attention.Wo.bias),
        gate=(gate, biases[0]),
        up=(up, biases[1]),
        down=(mlp.Wo.weight, mlp.Wo.bias),
        rotary=rotary,
        before_attention=layer.attn_norm,
        before_mlp=layer.mlp_norm,
        window=attention.sliding_window,
    )
