"""jina-reranker-v3 and v3.5: all documents of a request in one prompt, where each is read in the company of those before it.

A score is the cosine of two projected hidden states, the one behind the document and the one behind the query, so it depends
on the order and on the company. The two versions differ in their limits and in layers that see a window of the prompt, which
the config tells (../shared/reference/models.md, section 1).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from time import perf_counter

import torch
from transformers import Qwen3Config, Qwen3Model

from rerankd.engine import listwise_scores
from rerankd.engine.checkpoint import Checkpoint
from rerankd.engine.decoder import PackedDecoder
from rerankd.engine.decoder_weights import OUTPUTS, load_decoder
from rerankd.engine.families.recipe import Loading
from rerankd.engine.linear import tile_linears
from rerankd.engine.listwise_blocks import blocks
from rerankd.engine.listwise_prompt import ListwisePrompt, sanitised
from rerankd.engine.prompt_tokens import PromptTokenizer
from rerankd.engine.scorer import Prepared, Runner, Scored, Watch
from rerankd.engine.shortening import Shortened, shortened
from rerankd.engine.vectors import Vectors
from rerankd.engine.weights import Tensors
from rerankd.engine.windows import query_fits, reading
from rerankd.errors import LoadError
from rerankd.types import ModelCard, RerankRequest

INT8 = True
PROJECTOR = ("projector.0.weight", "projector.2.weight")
VECTOR_WIDTH = 512


@dataclass(frozen=True, slots=True)
class Limits:
    """Tokens of a query, of a document, and of a prompt."""

    query: int
    document: int
    prompt: int


@dataclass(frozen=True, slots=True)
class Texts:
    """A request's texts as they are put into prompts, and the most tokens that a document of it may have."""

    query: Shortened
    instruction: Shortened | None
    documents: Sequence[Shortened]
    longest: int


class Listwise:
    """A Scorer whose runner gives projected vectors: those of a prompt's documents, then its query's."""

    def __init__(
        self,
        card: ModelCard,
        runner: Runner,
        tokenizer: PromptTokenizer,
        limits: Limits,
        instruction: str | None = None,
    ) -> None:
        self.card = card
        self.runner = runner
        self._tokenizer = tokenizer
        self._prompt = ListwisePrompt(tokenizer)
        self._limits = limits
        self._instruction = instruction

    def prepare(self, request: RerankRequest, watch: Watch) -> Prepared:
        started = perf_counter()
        texts = self._texts(request)
        capacity = self._limits.prompt - 2 * texts.query.tokens
        instruction = texts.instruction.text if texts.instruction else None
        sequences = []
        for block in blocks([document.tokens for document in texts.documents], capacity, texts.longest):
            watch.check()
            members = texts.documents[block.start : block.stop]
            sequences.append(self._prompt.block(texts.query, instruction, members))
        watch.took("tokenize", started)

        def finish(results: Sequence[torch.Tensor]) -> Scored:
            return Scored(
                scores=listwise_scores.scores(results),
                tokens=sum(map(len, sequences)),
                truncated=[index for index, document in enumerate(texts.documents) if document.cut],
                query_truncated=texts.query.cut or (texts.instruction is not None and texts.instruction.cut),
                embeddings=Vectors([vector.float() for result in results for vector in result[:-1]]),
                limit=self._limits.document,
            )

        return Prepared(sequences, finish)

    def _texts(self, request: RerankRequest) -> Texts:
        """Raises `BadRequest` where something has to be cut, and the request forbids it."""
        wanted = replace(reading(request), chunks=1)
        instruction = self._instruction if request.instruction is None else request.instruction
        query = self._asked(request, request.query, "query")
        followed = self._asked(request, instruction, "instruction") if instruction else None
        room = max(1, min(self._limits.document, self._limits.prompt - 2 * query.tokens))
        longest = room if wanted.limit is None else min(room, wanted.limit)
        originals = [document.text for document in request.documents]
        documents = []
        for index, ids in enumerate(self._tokenizer.texts(originals, room + 1)):
            wanted.of(index, len(ids), room)
            documents.append(_clean(shortened(self._tokenizer, originals[index], ids, longest)))
        return Texts(query, followed, documents, longest)

    def _asked(self, request: RerankRequest, text: str, name: str) -> Shortened:
        """The text of the field `name`, cut where it is longer than a query may be."""
        limit = self._limits.query
        [ids] = self._tokenizer.texts([text], limit + 1)
        query_fits(request, len(ids), limit, name)
        return _clean(shortened(self._tokenizer, text, ids, limit))


def recognises(checkpoint: Checkpoint) -> bool:
    """A Qwen3 decoder with a projector, by whatever name."""
    if checkpoint.architecture == "JinaForRanking":
        return True
    return checkpoint.config.get("model_type") == "qwen3" and checkpoint.tensor_names.issuperset(PROJECTOR)


def load(loading: Loading) -> Listwise:
    """Raises `UnsupportedModel` where the tokenizer lacks a marker, `LoadError` where a tensor is missing or damaged."""
    checkpoint = loading.checkpoint
    config = Qwen3Config.from_dict(checkpoint.config)
    tokenizer = PromptTokenizer(checkpoint.tokenizer_json())
    limits = limits_of(config, loading)
    apart = [OUTPUTS, *(name for name in checkpoint.tensor_names if name.startswith("projector."))]
    base, heads = load_decoder(Qwen3Model, config, checkpoint, loading.placement, loading.progress, heads=apart)
    device = loading.placement.device
    runner = PackedDecoder(base, projector(heads, config.hidden_size).to(device), device, loading.int8)
    card = loading.card("listwise", "cosine", limits.prompt, listwise=True, embeddings=True, instructions=True)
    return Listwise(card, runner, tokenizer, limits, loading.instruction)


def limits_of(config: Qwen3Config, loading: Loading) -> Limits:
    """v3.5's where layers see a window, else v3's; the files alone tell the two apart."""
    query, document = (1024, 8192) if "sliding_attention" in (config.layer_types or ()) else (512, 2048)
    prompt = loading.checkpoint.max_length(config.max_position_embeddings, loading.max_length)
    # Where a user wants short prompts, the query, which stands there twice, must leave half of one to the documents.
    return Limits(max(1, min(loading.max_query_length or query, prompt // 4)), document, prompt)


def projector(heads: Tensors, hidden_size: int) -> torch.nn.Module:
    """Two linear layers without biases and a ReLU between them. Raises `LoadError` where the tensors are others."""
    inner = hidden_size // 2
    shapes = dict(zip(PROJECTOR, ((inner, hidden_size), (VECTOR_WIDTH, inner)), strict=True))
    found = {name: tuple(tensor.shape) for name, tensor in heads.items() if name.startswith("projector.")}
    if found != shapes:
        raise LoadError(f"The projector's tensors are {found}; those of a JinaForRanking are {shapes}.")
    layers = torch.nn.Sequential(_linear(heads[PROJECTOR[0]]), torch.nn.ReLU(), _linear(heads[PROJECTOR[1]]))
    tile_linears(layers)
    return layers


def _linear(weight: torch.Tensor) -> torch.nn.Linear:
    layer = torch.nn.Linear(weight.shape[1], weight.shape[0], bias=False, device="meta")
    layer.weight = torch.nn.Parameter(weight, requires_grad=False)
    return layer


def _clean(text: Shortened) -> Shortened:
    """The text without markers, to be tokenised again where there were some."""
    cleaned = sanitised(text.text)
    return text if cleaned == text.text else replace(text, text=cleaned, ids=None)
