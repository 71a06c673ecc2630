"""Bi-encoders: query and documents become vectors one by one, and a score is the cosine of two of them.

sentence-transformers' layout: an encoder, then mean or first-token pooling as `1_Pooling/config.json` says. BERT, RoBERTa
and their kin and ModernBERT run packed, MPNet and DistilBERT padded.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from time import perf_counter
from typing import Any

import torch
from transformers import (
    BertConfig,
    BertModel,
    CamembertConfig,
    CamembertModel,
    DistilBertConfig,
    DistilBertModel,
    ModernBertConfig,
    ModernBertModel,
    MPNetConfig,
    MPNetModel,
    PreTrainedConfig,
    PreTrainedModel,
    RobertaConfig,
    RobertaModel,
    XLMRobertaConfig,
    XLMRobertaModel,
)

from rerankd.engine.attention import Span
from rerankd.engine.checkpoint import Checkpoint
from rerankd.engine.encoder import Layers, PackedEncoder, Pool, by_head_rows, first_rows, mean_rows
from rerankd.engine.families.cross_encoder import encoder_layers
from rerankd.engine.families.modernbert import modernbert_layers
from rerankd.engine.families.recipe import Loading
from rerankd.engine.linear import tile_linears
from rerankd.engine.padded import Inputs, PaddedEncoder
from rerankd.engine.scorer import Prepared, Runner, Scored, Watch
from rerankd.engine.sequences import TokenSequence, distinct
from rerankd.engine.tokens import Layout, TextTokenizer, single_layout
from rerankd.engine.vectors import Vectors, cosines
from rerankd.engine.weights import load_model
from rerankd.engine.windows import query_fits, reading
from rerankd.errors import UnsupportedModel
from rerankd.types import ModelCard, RerankRequest


@dataclass(frozen=True, slots=True)
class Architecture:
    """A transformers class, with what makes its layers of it and a first position; None where it runs padded."""

    config: type[PreTrainedConfig]
    model: type[PreTrainedModel]
    layers: Callable[[Any, int], tuple[Layers, tuple[int, ...]]] | None = encoder_layers
    positions_after_padding: bool = False
    pooler: bool = True
    """Whether the class would make a pooler, if it were not told to leave it."""

    def first_position(self, config: Any) -> int:
        return config.pad_token_id + 1 if self.positions_after_padding else 0


ARCHITECTURES = {
    "BertModel": Architecture(BertConfig, BertModel),
    "RobertaModel": Architecture(RobertaConfig, RobertaModel, positions_after_padding=True),
    "XLMRobertaModel": Architecture(XLMRobertaConfig, XLMRobertaModel, positions_after_padding=True),
    "CamembertModel": Architecture(CamembertConfig, CamembertModel, positions_after_padding=True),
    "ModernBertModel": Architecture(
        ModernBertConfig, ModernBertModel, lambda base, _: modernbert_layers(base), pooler=False
    ),
    "MPNetModel": Architecture(MPNetConfig, MPNetModel, layers=None, positions_after_padding=True),
    "DistilBertModel": Architecture(DistilBertConfig, DistilBertModel, layers=None, pooler=False),
}
MODULES = {"Transformer", "Pooling", "Normalize"}


class BiEncoder:
    """A Scorer whose runner gives unit vectors in float32; `room` tokens of a document fit, `query_room` of a query."""

    def __init__(
        self,
        card: ModelCard,
        runner: Runner,
        tokenizer: TextTokenizer,
        layout: Layout,
        room: int,
        query_room: int,
    ) -> None:
        self.card = card
        self.runner = runner
        self._tokenizer = tokenizer
        self._layout = layout
        self._room = room
        self._query_room = query_room

    def vocabulary(self) -> dict[str, int]:
        """The pieces of the tokenizer's vocabulary and their ids."""
        return self._tokenizer.vocabulary()

    def single(self, text: str) -> TokenSequence:
        """A text as it is fed to the model, cut where it is too long."""
        return self._layout.single(self._tokenizer.encode([text], self._room)[0][: self._room])

    def texts(self, request: RerankRequest) -> Texts:
        """The query and the documents as sequences. Raises `BadRequest` where one must be cut and may not be."""
        wanted = reading(request)
        most = self._room if wanted.chunks is None else self._room * wanted.chunks
        query, *documents = self._tokenizer.encode([request.query, *(item.text for item in request.documents)], most)
        query_fits(request, len(query), self._query_room)
        windows, truncated = [], []
        for index, ids in enumerate(documents):
            spots, shortened = wanted.of(index, len(ids), self._room)
            if shortened:
                truncated.append(index)
            windows.append([self._layout.single(ids[start:stop]) for start, stop in spots])
        asked = self._layout.single(query[: self._query_room])
        return Texts(asked, windows, truncated, len(query) > self._query_room)

    def prepare(self, request: RerankRequest, watch: Watch) -> Prepared:
        started = perf_counter()
        texts = self.texts(request)
        sequences, spots = distinct(texts.sequences)
        watch.took("tokenize", started)

        def finish(results: Sequence[torch.Tensor]) -> Scored:
            vectors = [results[spot] for spot in spots]
            found = cosines(vectors[1:], vectors[0])
            best = texts.best(found)
            return Scored(
                scores=[found[place] for place in best],
                tokens=sum(map(len, texts.sequences)),
                truncated=texts.truncated,
                query_truncated=texts.query_truncated,
                embeddings=Vectors([vectors[1 + place] for place in best]),
            )

        return Prepared(sequences, finish)


@dataclass(frozen=True, slots=True)
class Texts:
    """A request's texts as they are fed to the model: the query, the windows of each document, and what was cut."""

    query: TokenSequence
    windows: Sequence[Sequence[TokenSequence]]
    truncated: Sequence[int]
    query_truncated: bool

    @property
    def sequences(self) -> list[TokenSequence]:
        """The query, then every window."""
        return [self.query, *(window for windows in self.windows for window in windows)]

    def best(self, scores: Sequence[float]) -> list[int]:
        """The place of each document's best window among all windows."""
        places, start = [], 0
        for windows in self.windows:
            stop = start + len(windows)
            places.append(max(range(start, stop), key=scores.__getitem__))
            start = stop
        return places


def load(loading: Loading) -> BiEncoder:
    """The checkpoint as a bi-encoder. Raises `UnsupportedModel` for modules or a pooling that are not known here."""
    checkpoint = loading.checkpoint
    architecture = ARCHITECTURES[checkpoint.architecture]
    config: Any = architecture.config.from_dict(checkpoint.config)
    pool = _pooling(checkpoint, loading.source)
    tokenizer_json = checkpoint.tokenizer_json()
    tokenizer = TextTokenizer(tokenizer_json)
    layout = single_layout(tokenizer_json, tokenizer)
    positions = config.max_position_embeddings - architecture.first_position(config)
    length = checkpoint.max_length(positions, loading.max_length)
    runner = (_padded if architecture.layers is None else _packed)(loading, architecture, config, pool, length)
    card = loading.card("bi-encoder", "cosine", length, embeddings=True)
    room = length - layout.special_tokens
    return BiEncoder(card, runner, tokenizer, layout, room, min(room, loading.max_query_length or room))


def _packed(loading: Loading, architecture: Architecture, config: Any, pool: Pool, _length: int) -> Runner:
    make: Any = architecture.layers
    layers, heights = make(_model(loading, architecture, config), architecture.first_position(config))
    padding_id = config.pad_token_id if architecture.positions_after_padding else None
    return PackedEncoder(layers, pool, _unit, heights, padding_id)


def _padded(loading: Loading, architecture: Architecture, config: Any, pool: Pool, length: int) -> Runner:
    model = _model(loading, architecture, config, attention="eager")
    tile_linears(model)

    def ask(inputs: Inputs) -> torch.Tensor:
        hidden: torch.Tensor = model(**inputs).last_hidden_state
        starts = range(0, hidden.shape[0] * hidden.shape[1], hidden.shape[1])
        counts = inputs["attention_mask"].sum(1).tolist()
        spans = [Span(start, start + count) for start, count in zip(starts, counts, strict=True)]
        return by_head_rows(_unit, pool(hidden.flatten(0, 1), spans))

    return PaddedEncoder(model, ask, length, masks=True)


def _model(loading: Loading, architecture: Architecture, config: Any, **how: Any) -> Any:
    if architecture.pooler:
        how["add_pooling_layer"] = False
    return load_model(architecture.model, config, loading.checkpoint, loading.placement, loading.progress, **how)


def recognises(checkpoint: Checkpoint) -> bool:
    return checkpoint.architecture in ARCHITECTURES


def _unit(rows: torch.Tensor) -> torch.Tensor:
    return torch.nn.functional.normalize(rows.float(), dim=1)


def _pooling(checkpoint: Checkpoint, source: str) -> Pool:
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
