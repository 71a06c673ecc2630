"""Cross-encoders: query and document in one sequence, one logit from its first token.

BERT, RoBERTa and their kin with a one-label classification head: bge-reranker-v2-m3, -base and -large, the ms-marco models
(MiniLM, TinyBERT, ELECTRA), and whatever else has that layout. How each is truncated and which scale it answers on is said
by its own files, and follows the code that its authors publish scores from (FlagEmbedding, sentence-transformers).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    CamembertConfig,
    CamembertForSequenceClassification,
    ElectraConfig,
    ElectraForSequenceClassification,
    PreTrainedConfig,
    PreTrainedModel,
    RobertaConfig,
    RobertaForSequenceClassification,
    XLMRobertaConfig,
    XLMRobertaForSequenceClassification,
)

from rerankd.engine.checkpoint import Checkpoint
from rerankd.engine.encoder import Layers, PackedEncoder, first_rows, whole_model
from rerankd.engine.families.recipe import Loading
from rerankd.engine.int8 import linear_class, no_int8
from rerankd.engine.linear import HEIGHTS, tile_linears
from rerankd.engine.pair_encoding import own_pairs
from rerankd.engine.pairwise import Pairwise
from rerankd.engine.post_norm import PostNormLayers, supports
from rerankd.engine.truncation import Cut, longest_first, query_capped
from rerankd.engine.weights import load_model
from rerankd.errors import UnsupportedModel
from rerankd.types import ScoreKind

IDENTITIES = ("torch.nn.modules.linear.Identity", "torch.nn.Identity")
SIGMOIDS = ("torch.nn.modules.activation.Sigmoid", "torch.nn.Sigmoid")


@dataclass(frozen=True, slots=True)
class Architecture:
    """How a transformers class is taken apart: its encoder, and the head on the first token's row."""

    config: type[PreTrainedConfig]
    model: type[PreTrainedModel]
    encoder: str
    head: Callable[[Any, torch.Tensor], torch.Tensor]
    positions_after_padding: bool = False


def _roberta_head(model: Any, rows: torch.Tensor) -> torch.Tensor:
    logits: torch.Tensor = model.classifier(rows.unsqueeze(1))
    return logits


def _bert_head(model: Any, rows: torch.Tensor) -> torch.Tensor:
    logits: torch.Tensor = model.classifier(model.bert.pooler(rows.unsqueeze(1)))
    return logits


INT8 = True
"""Whether this family can be run in 8-bit integers."""

ARCHITECTURES = {
    "XLMRobertaForSequenceClassification": Architecture(
        XLMRobertaConfig, XLMRobertaForSequenceClassification, "roberta", _roberta_head, positions_after_padding=True
    ),
    "RobertaForSequenceClassification": Architecture(
        RobertaConfig, RobertaForSequenceClassification, "roberta", _roberta_head, positions_after_padding=True
    ),
    "CamembertForSequenceClassification": Architecture(
        CamembertConfig, CamembertForSequenceClassification, "roberta", _roberta_head, positions_after_padding=True
    ),
    "ElectraForSequenceClassification": Architecture(
        ElectraConfig, ElectraForSequenceClassification, "electra", _roberta_head
    ),
    "BertForSequenceClassification": Architecture(BertConfig, BertForSequenceClassification, "bert", _bert_head),
}


def recognises(checkpoint: Checkpoint) -> bool:
    return checkpoint.architecture in ARCHITECTURES


def load(loading: Loading) -> Pairwise:
    """The checkpoint as a cross-encoder. Raises `UnsupportedModel` where it is none, `LoadError` where it is damaged."""
    checkpoint = loading.checkpoint
    architecture = ARCHITECTURES[checkpoint.architecture]
    config = architecture.config.from_dict(checkpoint.config)
    one_label(config, loading.source)
    length = checkpoint.max_length(positions(architecture, config), loading.max_length)
    encode = own_pairs(
        checkpoint,
        cut_of(checkpoint.config),
        length,
        token_types=config.type_vocab_size,
        query_limit=loading.max_query_length,
    )
    runner = first_row_encoder(loading, architecture, config)
    return Pairwise(loading.card("cross-encoder", score_kind(checkpoint.config), length), runner, encode)


def first_row_encoder(loading: Loading, architecture: Architecture, config: Any, **weights: Any) -> PackedEncoder:
    """The checkpoint's weights, read with `weights` as further arguments of `load_model`, as such a model."""
    model: Any = load_model(
        architecture.model, config, loading.checkpoint, loading.placement, loading.progress, **weights
    )
    layers, heights = encoder_layers(
        getattr(model, architecture.encoder), first_position(architecture, config), loading.int8
    )
    tile_linears(model)
    return PackedEncoder(
        layers,
        first_rows,
        # float64, because what follows may be a sigmoid: in float32 that is 1.0 from a logit of 17 on.
        lambda rows: architecture.head(model, rows).double(),
        heights,
        config.pad_token_id if architecture.positions_after_padding else None,
    )


def first_position(architecture: Architecture, config: Any) -> int:
    """The position id of a sequence's first token."""
    return config.pad_token_id + 1 if architecture.positions_after_padding else 0


def positions(architecture: Architecture, config: Any) -> int:
    """How many tokens of a sequence have a position."""
    return int(config.max_position_embeddings) - first_position(architecture, config)


def encoder_layers(base: Any, first_position: int, int8: bool = False) -> tuple[Layers, tuple[int, ...]]:
    """The layers of `base` as fast as they can be run here, and the batch heights that they want.

    Raises `LoadError` where they are to be run in int8 and cannot be.
    """
    if supports(base):
        fast = PostNormLayers(base, first_position, linear_class(int8))
        return fast, fast.heights
    if int8:
        raise no_int8()
    tile_linears(base)
    return whole_model(base, first_position, base.device), HEIGHTS


def one_label(config: Any, source: str) -> None:
    if config.num_labels != 1:
        raise UnsupportedModel(f"{source} has {config.num_labels} labels; a reranker has one.")


def score_kind(config: dict[str, Any]) -> ScoreKind:
    """sentence-transformers' rule: the activation that the config names, else a sigmoid.

    Raises `UnsupportedModel` for an activation that is neither.
    """
    newer = config.get("sentence_transformers")
    named = newer.get("activation_fn") if isinstance(newer, dict) else None
    named = named or config.get("sbert_ce_default_activation_function")
    if named is None or named in SIGMOIDS:
        return "probability"
    if named in IDENTITIES:
        return "logit"
    raise UnsupportedModel(f"The config asks for the activation {named}; known are Identity and Sigmoid.")


def cut_of(config: dict[str, Any]) -> Cut:
    """How a pair that is too long is cut: as the code does from which the model's published scores come.

    bge's XLM-R rerankers are run by FlagEmbedding; models that sentence-transformers has marked, and BERT's, by it.
    """
    marked = "sentence_transformers" in config or "sbert_ce_default_activation_function" in config
    return query_capped if config.get("model_type") == "xlm-roberta" and not marked else longest_first
