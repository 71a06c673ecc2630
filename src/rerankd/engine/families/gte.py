"""gte-multilingual-reranker: an encoder with rotary positions and a gated MLP, one logit from its first token.

Its published config (model type `new`) belongs to code on the hub; it is read here into transformers' own `gte`, whose
config is taken as it is. transformers takes the fused weights apart.
"""

from __future__ import annotations

from typing import Any

import torch
from transformers import GteConfig, GteForSequenceClassification

from rerankd.engine.checkpoint import Checkpoint
from rerankd.engine.encoder import Layers, PackedEncoder, first_rows, whole_model
from rerankd.engine.families.cross_encoder import one_label, score_kind
from rerankd.engine.families.recipe import Loading
from rerankd.engine.linear import HEIGHTS, tile_linears
from rerankd.engine.packing import PackedBatch
from rerankd.engine.pair_encoding import own_pairs
from rerankd.engine.pairwise import Pairwise
from rerankd.engine.rotary import RotaryTable
from rerankd.engine.rotary_encoder import RotaryLayer, RotaryLayers, supports
from rerankd.engine.truncation import longest_first
from rerankd.engine.weights import load_model
from rerankd.errors import UnsupportedModel

ARCHITECTURES = ("NewForSequenceClassification", "GteForSequenceClassification")
ONLY = {"position_embedding_type": "rope", "layer_norm_type": "layer_norm", "logn_attention_scale": False}
"""What the published code could do otherwise, and no published reranker does."""


def recognises(checkpoint: Checkpoint) -> bool:
    return checkpoint.architecture in ARCHITECTURES


def load(loading: Loading) -> Pairwise:
    """Raises `UnsupportedModel` where the config asks for what is not known here, `LoadError` where files are damaged."""
    checkpoint = loading.checkpoint
    config = gte_config(checkpoint.config)
    one_label(config, loading.source)
    length = checkpoint.max_length(config.max_position_embeddings, loading.max_length)
    encode = own_pairs(
        checkpoint,
        longest_first,
        length,
        token_types=config.type_vocab_size,
        query_limit=loading.max_query_length,
    )
    model: Any = load_model(
        GteForSequenceClassification, config, checkpoint, loading.placement, loading.progress, whole=True
    )
    layers, heights = _layers(model.gte)
    tile_linears(model)
    runner = PackedEncoder(
        layers, first_rows, lambda rows: model.classifier(model.gte.pooler(rows.unsqueeze(1))).double(), heights
    )
    return Pairwise(loading.card("cross-encoder", score_kind(checkpoint.config), length), runner, encode)


def gte_config(config: dict[str, Any]) -> GteConfig:
    """transformers' config from a checkpoint's own. Raises `UnsupportedModel` for what its class cannot do."""
    if config.get("model_type") == "gte":
        return GteConfig.from_dict(config)
    for name, known in ONLY.items():
        if config.get(name, known) != known:
            raise UnsupportedModel(f"The config's {name} is {config[name]}; only {known} is known.")
    left_out = ("model_type", "auto_map", "rope_theta", "rope_scaling")
    fields = {name: value for name, value in config.items() if name not in left_out}
    width = config["hidden_size"] // config["num_attention_heads"]
    rope = rope_parameters(config.get("rope_theta", 10000.0), config.get("rope_scaling"), width)
    return GteConfig.from_dict({**fields, "rope_parameters": rope})


def rope_parameters(theta: float, scaling: dict[str, Any] | None, head_dim: int) -> dict[str, Any]:
    """NTK scaling by f: frequencies (theta f)^(-2i/d) / f^(2/d), at every length; linear scaling can say the same."""
    if not scaling:
        return {"rope_type": "default", "rope_theta": theta}
    kind = scaling.get("type", scaling.get("rope_type"))
    if kind != "ntk" or scaling.get("mixed_b") is not None:
        raise UnsupportedModel(f"The config's rope_scaling is {scaling}; only a plain ntk is known.")
    factor = float(scaling["factor"])
    return {"rope_type": "linear", "rope_theta": theta * factor, "factor": factor ** (2 / head_dim)}


def _layers(base: Any) -> tuple[Layers, tuple[int, ...]]:
    if not supports(base, base.layers[0].mlp.act_fn):
        tile_linears(base)
        return whole_model(base, 0, base.device), HEIGHTS
    rotary = RotaryTable(base.rotary_emb)
    built = []
    for index, layer in enumerate(base.layers):
        built.append(_layer(layer, rotary))
        base.layers[index] = torch.nn.Identity()  # its weights are in the tiles now

    def embed(batch: PackedBatch) -> torch.Tensor:
        embedded: torch.Tensor = base.embeddings(
            input_ids=batch.input_ids.unsqueeze(0), token_type_ids=batch.token_type_ids.unsqueeze(0)
        )
        return embedded[0]

    fast = RotaryLayers(embed, built, base.config.num_attention_heads)
    return fast, fast.heights


def _layer(layer: Any, rotary: RotaryTable) -> RotaryLayer:
    attention, mlp = layer.self_attn, layer.mlp
    parts = (attention.q_proj, attention.k_proj, attention.v_proj)
    return RotaryLayer(
        qkv=(torch.cat([part.weight for part in parts]), torch.cat([part.bias for part in parts])),
        out=(attention.o_proj.weight, attention.o_proj.bias),
        gate=(mlp.gate_proj.weight, mlp.gate_proj.bias),
        up=(mlp.up_proj.weight, mlp.up_proj.bias),
        down=(mlp.down_proj.weight, mlp.down_proj.bias),
        rotary=rotary,
        after_attention=layer.post_attention_layernorm,
        after_mlp=layer.post_mlp_layernorm,
    )
