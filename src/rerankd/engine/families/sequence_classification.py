"""Any other cross-encoder that transformers has a class for: one label, one logit, run padded, as its own class does it.

DeBERTa (mxbai-rerank v1), MPNet, DistilBERT, ALBERT and more: encoders whose attention is their own, or of which there are
too few to pack.
"""

from __future__ import annotations

import inspect
from typing import Any

import transformers
from transformers import PreTrainedModel
from transformers.modeling_layers import GenericForSequenceClassification

from rerankd.engine.checkpoint import UNLIMITED, Checkpoint
from rerankd.engine.families.cross_encoder import cut_of, one_label, score_kind
from rerankd.engine.families.recipe import Loading
from rerankd.engine.linear import tile_linears
from rerankd.engine.padded import PaddedEncoder, positions, token_types
from rerankd.engine.pair_encoding import own_pairs
from rerankd.engine.pairwise import Pairwise
from rerankd.engine.weights import load_model

MASKED_WELL = {
    "albert",
    "data2vec-text",
    "deberta",
    "deberta-v2",
    "distilbert",
    "ernie",
    "eurobert",
    "megatron-bert",
    "mobilebert",
    "mpnet",
    "nomic_bert",
    "rembert",
    "roberta-prelayernorm",
    "squeezebert",
    "xlm-roberta-xl",
}
"""Model types that give a padded sequence the answer that it gets alone, as the tests see; others run one by one."""
UNSTATED = 512
"""Tokens of a sequence where no file states a limit."""


def recognises(checkpoint: Checkpoint) -> bool:
    return _class(checkpoint.architecture) is not None


def load(loading: Loading) -> Pairwise:
    """Raises `UnsupportedModel` where it has several labels, `LoadError` where its files are damaged."""
    checkpoint = loading.checkpoint
    cls: Any = _class(checkpoint.architecture)
    config = cls.config_class.from_dict(checkpoint.config)
    one_label(config, loading.source)
    # "eager", because other ways to attend choose another kernel where nothing of a batch is masked.
    model: Any = load_model(cls, config, checkpoint, loading.placement, loading.progress, attention="eager")
    masks = config.model_type in MASKED_WELL
    if masks:
        tile_linears(model)
    stated = checkpoint.max_length(positions(model), loading.max_length)
    length = stated if stated < UNLIMITED else UNSTATED
    encode = own_pairs(
        checkpoint,
        cut_of(checkpoint.config),
        length,
        token_types=token_types(model),
        query_limit=loading.max_query_length,
    )
    runner = PaddedEncoder(model, lambda inputs: model(**inputs).logits.double(), length, masks=masks)
    return Pairwise(loading.card("cross-encoder", score_kind(checkpoint.config), length), runner, encode)


def _class(architecture: str) -> type[PreTrainedModel] | None:
    """transformers' own class of that name, where it is an encoder of texts and says how many token types it knows."""
    found = getattr(transformers, architecture, None) if architecture.endswith("ForSequenceClassification") else None
    if not isinstance(found, type) or not issubclass(found, PreTrainedModel):
        return None
    inputs = inspect.signature(found.forward).parameters
    decoder = issubclass(found, GenericForSequenceClassification)
    typed = "token_type_ids" not in inputs or hasattr(found.config_class, "type_vocab_size")
    return found if "input_ids" in inputs and typed and not decoder else None
