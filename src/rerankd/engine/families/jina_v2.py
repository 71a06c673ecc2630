"""jina-reranker-v2-base-multilingual: XLM-RoBERTa under other names; long documents are read in windows, the best counts.

Its published code fuses query, key and value and calls everything differently; the mathematics is that of transformers' own
class, into which the weights are put here.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

import torch
from transformers import XLMRobertaConfig

from rerankd.engine.checkpoint import Checkpoint
from rerankd.engine.families.cross_encoder import ARCHITECTURES, first_row_encoder, one_label, positions, score_kind
from rerankd.engine.families.recipe import Loading
from rerankd.engine.pair_encoding import own_pairs
from rerankd.engine.pairwise import Pairwise
from rerankd.engine.truncation import query_capped
from rerankd.engine.weights import Tensors

XLM_ROBERTA = "XLMRobertaForSequenceClassification"
INT8 = True
QUERY_TOKENS = 510
"""512 with `<s>` and `</s>`."""
LAYER = re.compile(r"roberta\.encoder\.layers\.(\d+)\.(.+)\.(weight|bias)")
PARTS = {
    "mixer.out_proj": "attention.output.dense",
    "norm1": "attention.output.LayerNorm",
    "mlp.fc1": "intermediate.dense",
    "mlp.fc2": "output.dense",
    "norm2": "output.LayerNorm",
}


def recognises(checkpoint: Checkpoint) -> bool:
    """The config names the standard class and no model type; what tells them apart for certain are the tensors."""
    return checkpoint.architecture == XLM_ROBERTA and any(".mixer.Wqkv." in name for name in checkpoint.tensor_names)


def load(loading: Loading) -> Pairwise:
    """Raises `UnsupportedModel` where it is no such reranker, `LoadError` where a tensor is missing or left over."""
    checkpoint = loading.checkpoint
    config = XLMRobertaConfig.from_dict(checkpoint.config)
    one_label(config, loading.source)
    architecture = ARCHITECTURES[XLM_ROBERTA]
    length = checkpoint.max_length(positions(architecture, config), loading.max_length)
    encode = own_pairs(
        checkpoint,
        query_capped,
        length,
        token_types=config.type_vocab_size,
        chunks=None,
        query_limit=query_limit(length, loading.max_query_length),
    )
    runner = first_row_encoder(loading, architecture, config, rename=standard_names, whole=True)
    return Pairwise(loading.card("cross-encoder", score_kind(checkpoint.config), length), runner, encode)


def query_limit(max_length: int, wanted: int | None) -> int:
    """Tokens of a query, special ones apart: a sequence must have room for twice as many as a query may have."""
    return max(1, min(wanted or QUERY_TOKENS, max_length // 2 - 2))


def standard_names(tensors: Tensors) -> Tensors:
    """The published layout's tensors as transformers' class names and divides them."""
    return dict(pair for name, tensor in tensors.items() for pair in _standard(name, tensor))


def _standard(name: str, tensor: torch.Tensor) -> Iterator[tuple[str, torch.Tensor]]:
    found = LAYER.fullmatch(name)
    if found is None:
        yield name.replace("roberta.emb_ln.", "roberta.embeddings.LayerNorm."), tensor
        return
    layer, part, kind = found.groups()
    within = f"roberta.encoder.layer.{layer}"
    if part != "mixer.Wqkv":
        yield f"{within}.{PARTS.get(part, part)}.{kind}", tensor
        return
    for third, piece in zip(("query", "key", "value"), tensor.chunk(3), strict=True):
        yield f"{within}.attention.self.{third}.{kind}", piece
