"""The vocabulary: what a rerank request, its answer and its context are, in no wire format and with no model in mind.

Every value is immutable, so that a cache, a retry or a log can keep one without copying it.
"""

from __future__ import annotations

from time import monotonic, perf_counter
from typing import Any, Literal

import msgspec

from rerankd.accounts import Allowance, Caller

BUILTIN = "builtin"
LEXICAL = "lexical"
"""The models that come with rerankd, as names and as sources."""

LOCAL = "local"
"""What a model on this machine is called among channels."""

CHANNEL = "channel"
"""The family of a model that is somewhere else."""

ScoreKind = Literal["probability", "logit", "cosine"]

Priority = Literal["interactive", "batch"]
"""Who waits: a person, or a job that can let others go first."""


class Document(msgspec.Struct, frozen=True, gc=False):
    """One text to be ranked. An empty text is legal.

    `fields` is the JSON object that the client sent in its place, where that holds more than the text; a client that wants
    its documents back gets that one back.
    """

    text: str
    fields: dict[str, Any] | None = None


class RerankRequest(msgspec.Struct, frozen=True, kw_only=True):
    """One query, the documents to put in order for it, and what the answer should hold.

    `model` is the name that was asked for, or None for the default; `top_n` None means all documents. `instruction` is
    what the ranking should follow, where a model can. Lengths are in tokens of the model: `max_tokens_per_doc` cuts each
    document; `max_chunks_per_doc` scores a long one in at most so many windows, which share `overlap_tokens`, and the best
    counts. With `truncation` False a text that the model cannot hold is an error; a cut that was asked for is none.
    `raw_scores` asks for logits (True) or probabilities (False), where the model can tell; None is the model's own scale.
    `unread` names the fields that the client used, its format has, and nothing here can do.
    """

    query: str
    documents: tuple[Document, ...]
    model: str | None = None
    top_n: int | None = None
    return_documents: bool = False
    return_embeddings: bool = False
    instruction: str | None = None
    max_tokens_per_doc: int | None = None
    max_chunks_per_doc: int | None = None
    overlap_tokens: int | None = None
    truncation: bool = True
    raw_scores: bool | None = None
    priority: Priority = "interactive"
    unread: tuple[str, ...] = ()


class Result(msgspec.Struct, frozen=True, gc=False):
    """The score of the document at `index` of the request; `embedding` only where asked for and the model has one."""

    index: int
    relevance_score: float
    document: Document | None = None
    embedding: tuple[float, ...] | None = None


class Usage(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Tokens fed to the model: for a pairwise model the query counts once per document.

    `cached_tokens` are those of `prompt_tokens` that a cache saved; `estimated` says that nobody counted them exactly.
    `search_units` are Cohere's: one for each 100 documents, where a document is counted for each 500 tokens of it and the
    query; None where nobody counted.
    """

    prompt_tokens: int
    cached_tokens: int = 0
    estimated: bool = False
    search_units: int | None = None

    @property
    def total_tokens(self) -> int:
        """Rerankers write nothing, so the total is the prompt."""
        return self.prompt_tokens


class RerankResponse(msgspec.Struct, frozen=True, kw_only=True):
    """What ranked, the results, what it cost, and what the caller should know (`warnings`, one sentence each)."""

    model: str
    results: tuple[Result, ...]
    usage: Usage
    warnings: tuple[str, ...] = ()


class ModelCard(msgspec.Struct, frozen=True, kw_only=True):
    """Facts about a served model. They are looked up by name and never asked of a Reranker.

    `listwise` models score a document in the company of the others: such a request is never split. `instructions` says that
    the model follows an instruction, `logits` that a score has a logit behind it, so that a request can choose between both.
    """

    name: str
    family: str
    score: ScoreKind
    source: str
    device: str
    dtype: str
    max_length: int | None = None
    listwise: bool = False
    embeddings: bool = False
    instructions: bool = False
    logits: bool = False
    notice: str | None = None


class Notes(msgspec.Struct):
    """What happened on the way, as whoever did it wrote it down.

    Times of stages in milliseconds, and when each first began (`time.perf_counter`); the channel that answered, how many
    calls went out to upstreams for it (`attempts`), and whether an answer came out of the cache; what is left of the
    caller's limits, by their names (requests, tokens, documents); the place of its row in the ledger (`sequence`); whether
    the answer was given before, under the same Idempotency-Key (`replayed`), and then under which request id and when, in
    seconds since 1970 (`first_given`).
    """

    timings: dict[str, float] = {}  # msgspec copies what is empty
    began: dict[str, float] = {}
    channel: str | None = None
    attempts: int = 0
    cached: bool = False
    allowances: dict[str, Allowance] = {}
    sequence: int | None = None
    replayed: bool = False
    first_given: tuple[str, int] | None = None

    def took(self, stage: str, milliseconds: float, began: float | None = None) -> None:
        """`began` is of `time.perf_counter`; without it the stage has ended just now."""
        if stage in self.timings:
            self.timings[stage] += milliseconds
            return
        self.timings[stage] = milliseconds
        self.began[stage] = perf_counter() - milliseconds / 1000 if began is None else began


class Call(msgspec.Struct, frozen=True):
    """What a request needs beside its content: who it is, and until when an answer is of use (`time.monotonic`).

    `created` is when it came, in seconds since 1970; `owner` is whose cache it may use, the empty one being everybody's.
    `spare` is how many others could be asked if this one fails: calls are left for them. `caller` is None where no key is
    asked for. What comes again under its `idempotency_key` is the same request; `holder` is the claim on that key under
    which this one is worked on. `traceparent` is what upstreams are told of the trace that the request belongs to (W3C);
    empty where there is none.
    """

    request_id: str
    deadline: float | None = None
    created: int = 0
    owner: str = ""
    spare: int = 0
    caller: Caller | None = None
    idempotency_key: str | None = None
    holder: str | None = None
    traceparent: str = ""
    notes: Notes = msgspec.field(default_factory=Notes)

    def remaining(self) -> float | None:
        """Seconds until the deadline; negative when it has passed; None when there is none."""
        return None if self.deadline is None else self.deadline - monotonic()
