"""Bi-encoders: query and documents become vectors one by one, and a score is the cosine of two of them.

sentence-transformers' layout: an encoder, then mean or first-token pooling as `1_Pooling/config.json` says.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from time import perf_counter
from typing import Any, overload

import torch
from transformers import BertConfig, BertModel, PreTrainedConfig, PreTrainedModel, XLMRobertaConfig, XLMRobertaModel

from rerankd.engine.checkpoint import Checkpoint, Progress
from rerankd.engine.devices import Placement
from rerankd.engine.encoder import PackedEncoder, first_rows, mean_rows
from rerankd.engine.packing import PackedBatch, TokenSequence
from rerankd.engine.scorer import Scored, Watch
from rerankd.engine.tokens import Layout, TextTokenizer, single_layout
from rerankd.engine.weights import load_model
from rerankd.errors import UnsupportedModel
from rerankd.types import ModelCard

Pooling = Callable[[torch.Tensor, PackedBatch], torch.Tensor]


@dataclass(frozen=True, slots=True)
class Architecture:
    config: type[PreTrainedConfig]
    model: type[PreTrainedModel]
    positions_after_padding: bool


ARCHITECTURES = {
    "BertModel": Architecture(BertConfig, BertModel, positions_after_padding=False),
    "XLMRobertaModel": Architecture(XLMRobertaConfig, XLMRobertaModel, positions_after_padding=True),
}
MODULES = {"Transformer", "Pooling", "Normalize"}


class Vectors(Sequence[tuple[float, ...]]):
    """The rows of a tensor [documents, width] as tuples, made only where somebody asks for them."""

    def __init__(self, rows: torch.Tensor) -> None:
        self._rows = rows

    def __len__(self) -> int:
        return len(self._rows)

    @overload
    def __getitem__(self, index: int) -> tuple[float, ...]: ...

    @overload
    def __getitem__(self, index: slice) -> Sequence[tuple[float, ...]]: ...

    def __getitem__(self, index: int | slice) -> tuple[float, ...] | Sequence[tuple[float, ...]]:
        return Vectors(self._rows[index]) if isinstance(index, slice) else tuple(self._rows[index].tolist())


@dataclass(frozen=True, slots=True)
class Embedded:
    """Unit vectors [texts, width] in float32, the tokens of each text as fed to the model, and which were cut."""

    vectors: torch.Tensor
    sequences: list[TokenSequence]
    truncated: list[int]

    def tuples(self) -> Vectors:
        return Vectors(self.vectors)

    def pick(self, indexes: Sequence[int]) -> Embedded:
        cut = set(self.truncated)
        return Embedded(
            self.vectors[torch.tensor(indexes)],
            [self.sequences[index] for index in indexes],
            [place for place, index in enumerate(indexes) if index in cut],
        )


class BiEncoder:
    def __init__(
        self,
        card: ModelCard,
        max_length: int,
        tokenizer: TextTokenizer,
        layout: Layout,
        encoder: PackedEncoder,
        pooling: Pooling,
    ) -> None:
        self.card = card
        self._max_length = max_length
        self._tokenizer = tokenizer
        self._layout = layout
        self._encoder = encoder
        self._pooling = pooling

    def embed(self, texts: Sequence[str], watch: Watch) -> Embedded:
        started = perf_counter()
        room = self._max_length - self._layout.special_tokens
        ids = self._tokenizer.encode(texts, limit=room)
        sequences = [self._layout.single(text_ids[:room]) for text_ids in ids]
        truncated = [index for index, text_ids in enumerate(ids) if len(text_ids) > room]
        watch.took("tokenize", started)
        vectors = self._encoder.rows(sequences, self._pooling, watch).float()
        return Embedded(torch.nn.functional.normalize(vectors, dim=1), sequences, truncated)

    def vocabulary(self) -> dict[str, int]:
        """The pieces of the tokenizer's vocabulary and their ids."""
        return self._tokenizer.vocabulary()

    def score(self, query: str, documents: Sequence[str], watch: Watch) -> Scored:
        embedded = self.embed([query, *documents], watch)
        asked, candidates = embedded.pick([0]), embedded.pick(range(1, len(documents) + 1))
        return Scored(
            scores=(candidates.vectors @ asked.vectors[0]).tolist(),
            tokens=sum(map(len, embedded.sequences)),
            truncated=candidates.truncated,
            query_truncated=bool(asked.truncated),
            embeddings=candidates.tuples(),
        )


def load(
    name: str, source: str, checkpoint: Checkpoint, placement: Placement, max_length: int | None, progress: Progress
) -> BiEncoder:
    """The checkpoint as a bi-encoder. Raises `UnsupportedModel` for modules or a pooling that are not known here."""
    architecture = ARCHITECTURES[checkpoint.architecture]
    config = architecture.config.from_dict(checkpoint.config)
    pooling = _pooling(checkpoint, source)
    tokenizer_json = checkpoint.tokenizer_json()
    tokenizer = TextTokenizer(tokenizer_json)
    layout = single_layout(tokenizer_json, tokenizer)
    first_position = config.pad_token_id + 1 if architecture.positions_after_padding else 0
    length = checkpoint.max_length(config.max_position_embeddings - first_position, max_length)
    model = load_model(architecture.model, config, checkpoint, placement, progress, add_pooling_layer=False)
    card = ModelCard(
        name=name,
        family="bi-encoder",
        score="cosine",
        source=source,
        device=str(placement.device),
        dtype=placement.dtype_name,
        max_length=length,
        embeddings=True,
    )
    return BiEncoder(card, length, tokenizer, layout, PackedEncoder(model, first_position, placement.device), pooling)


def _pooling(checkpoint: Checkpoint, source: str) -> Pooling:
    kinds = {module.get("type", "").rpartition(".")[2] for module in _modules(checkpoint)}
    if not kinds <= MODULES:
        raise UnsupportedModel(
            f"{source} has the modules {', '.join(sorted(kinds - MODULES))}, which are not supported."
        )
    described = checkpoint.json("1_Pooling/config.json")
    modes = {key for key, on in described.items() if key.startswith("pooling_mode_") and on is True}
    if not modes or modes == {"pooling_mode_mean_tokens"}:
        return mean_rows
    if modes == {"pooling_mode_cls_token"}:
        return first_rows
    raise UnsupportedModel(f"{source} pools by {', '.join(sorted(modes))}; known are mean and first token.")


def _modules(checkpoint: Checkpoint) -> list[dict[str, Any]]:
    modules = checkpoint.json_list("modules.json")
    return [module for module in modules if isinstance(module, dict)]
