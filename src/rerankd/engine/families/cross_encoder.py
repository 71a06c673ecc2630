"""Cross-encoders: query and document in one sequence, one logit from its first token.

BERT and XLM-RoBERTa with a one-label classification head: bge-reranker-v2-m3, -base and -large, the ms-marco MiniLM and
TinyBERT models, and whatever else has that layout. How each is truncated and which scale it answers on is said by its own
files, and follows the code that its authors publish scores from (FlagEmbedding, sentence-transformers).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from time import perf_counter
from typing import Any

import torch
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    PreTrainedConfig,
    PreTrainedModel,
    XLMRobertaConfig,
    XLMRobertaForSequenceClassification,
)

from rerankd.engine.checkpoint import Checkpoint, Progress
from rerankd.engine.devices import Placement
from rerankd.engine.encoder import PackedEncoder, first_rows
from rerankd.engine.packing import PackedBatch, TokenSequence
from rerankd.engine.scorer import Scored, Watch
from rerankd.engine.tokens import Layout, TextTokenizer, pair_layout
from rerankd.engine.truncation import Cut, longest_first, query_capped
from rerankd.engine.weights import load_model
from rerankd.errors import UnsupportedModel
from rerankd.types import ModelCard, ScoreKind

IDENTITIES = ("torch.nn.modules.linear.Identity", "torch.nn.Identity")
SIGMOIDS = ("torch.nn.modules.activation.Sigmoid", "torch.nn.Sigmoid")


Head = Callable[[torch.Tensor], torch.Tensor]
"""First tokens' hidden states [sequences, hidden_size] to logits [sequences, 1]."""


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


ARCHITECTURES = {
    "XLMRobertaForSequenceClassification": Architecture(
        XLMRobertaConfig, XLMRobertaForSequenceClassification, "roberta", _roberta_head, positions_after_padding=True
    ),
    "BertForSequenceClassification": Architecture(BertConfig, BertForSequenceClassification, "bert", _bert_head),
}


class CrossEncoder:
    def __init__(
        self,
        card: ModelCard,
        max_length: int,
        tokenizer: TextTokenizer,
        layout: Layout,
        cut: Cut,
        encoder: PackedEncoder,
        head: Head,
    ) -> None:
        self.card = card
        self._max_length = max_length
        self._tokenizer = tokenizer
        self._layout = layout
        self._cut = cut
        self._encoder = encoder
        self._head = head

    def sequences(self, query: str, documents: Sequence[str]) -> tuple[list[TokenSequence], list[int], bool]:
        """The pair of each document as it is fed to the model, the indexes of those cut, and whether the query was."""
        query_ids, *document_ids = self._tokenizer.encode([query, *documents], limit=self._max_length)
        sequences, truncated, query_cut = [], [], False
        for index, ids in enumerate(document_ids):
            query_length, document_length = self._cut(
                len(query_ids), len(ids), self._max_length, self._layout.special_tokens
            )
            query_cut = query_cut or query_length < len(query_ids)
            if document_length < len(ids):
                truncated.append(index)
            sequences.append(self._layout.pair(query_ids[:query_length], ids[:document_length]))
        return sequences, truncated, query_cut

    def score(self, query: str, documents: Sequence[str], watch: Watch) -> Scored:
        started = perf_counter()
        sequences, truncated, query_cut = self.sequences(query, documents)
        watch.took("tokenize", started)
        logits = self._encoder.rows(sequences, self._logits, watch)[:, 0]
        scores = torch.sigmoid(logits) if self.card.score == "probability" else logits
        return Scored(scores.tolist(), sum(map(len, sequences)), truncated, query_cut)

    def _logits(self, hidden: torch.Tensor, batch: PackedBatch) -> torch.Tensor:
        # float64 before the activation: in float32 a sigmoid is 1.0 from a logit of 17 on, and the order is lost.
        return self._head(first_rows(hidden, batch)).double()


def load(
    name: str, source: str, checkpoint: Checkpoint, placement: Placement, max_length: int | None, progress: Progress
) -> CrossEncoder:
    """The checkpoint as a cross-encoder. Raises `UnsupportedModel` where it is none, `LoadError` where it is damaged."""
    architecture = ARCHITECTURES[checkpoint.architecture]
    config = architecture.config.from_dict(checkpoint.config)
    if config.num_labels != 1:
        raise UnsupportedModel(f"{source} has {config.num_labels} labels; a reranker has one.")
    tokenizer_json = checkpoint.tokenizer_json()
    tokenizer = TextTokenizer(tokenizer_json)
    layout = pair_layout(tokenizer_json, tokenizer)
    first_position = config.pad_token_id + 1 if architecture.positions_after_padding else 0
    length = checkpoint.max_length(config.max_position_embeddings - first_position, max_length)
    model: Any = load_model(architecture.model, config, checkpoint, placement, progress)
    card = ModelCard(
        name=name,
        family="cross-encoder",
        score=score_kind(checkpoint.config),
        source=source,
        device=str(placement.device),
        dtype=placement.dtype_name,
        max_length=length,
    )
    encoder = PackedEncoder(getattr(model, architecture.encoder), first_position, placement.device)
    head = partial(architecture.head, model)
    return CrossEncoder(card, length, tokenizer, layout, cut_of(checkpoint.config), encoder, head)


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
