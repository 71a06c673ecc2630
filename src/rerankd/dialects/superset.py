"""POST /v1/rerank: Jina's request, and one answer that Jina, New API and Cohere v1 clients all accept.

It is the standard form into which New API puts every provider: `document` is `{"text": ...}` and comes back unless the
client says no, `usage` is the long one, `meta` is Cohere's. What is absent is left out, never null: strict readers fail
on a null `document` or `usage` (measured with litellm 1.106.2).
"""

from __future__ import annotations

from collections.abc import Mapping
from math import ceil
from typing import Any, Literal

import msgspec
from msgspec import UNSET, UnsetType

from rerankd.dialects import root_error, root_request
from rerankd.dialects.decoding import decode, decode_answer
from rerankd.dialects.fields import EXPECTED, TextDocument
from rerankd.errors import RerankError
from rerankd.types import Call, Document, RerankRequest, RerankResponse, Result, Usage

DOCUMENTS_PER_SEARCH_UNIT = 100


class SupersetRequest(root_request.RootRequest):
    """What to rank. `top_n` 0, null or absent means all documents; `return_documents` is true unless said otherwise."""


class SupersetResult(msgspec.Struct):
    index: int
    relevance_score: float
    document: TextDocument | UnsetType = UNSET
    embedding: list[float] | UnsetType = UNSET


class PromptTokensDetails(msgspec.Struct):
    cached_tokens: int = 0
    audio_tokens: int = 0
    cached_tokens_details: dict[str, int] = {}


class CompletionTokensDetails(msgspec.Struct):
    reasoning_tokens: int = 0
    audio_tokens: int = 0
    accepted_prediction_tokens: int = 0
    rejected_prediction_tokens: int = 0


class SupersetUsage(msgspec.Struct):
    """Tokens fed to the model, counted with its own tokenizer."""

    prompt_tokens: int = 0
    completion_tokens: int = 0
    total_tokens: int = 0
    prompt_tokens_details: PromptTokensDetails = msgspec.field(default_factory=PromptTokensDetails)
    completion_tokens_details: CompletionTokensDetails = msgspec.field(default_factory=CompletionTokensDetails)


class ApiVersion(msgspec.Struct):
    version: str = "1"


class BilledUnits(msgspec.Struct):
    search_units: int = 0


class Tokens(msgspec.Struct):
    input_tokens: int = 0
    output_tokens: int = 0


class Meta(msgspec.Struct):
    """Cohere's part of the answer; a search unit is a query with up to 100 documents."""

    api_version: ApiVersion = msgspec.field(default_factory=ApiVersion)
    billed_units: BilledUnits = msgspec.field(default_factory=BilledUnits)
    tokens: Tokens = msgspec.field(default_factory=Tokens)
    warnings: list[str] | UnsetType = UNSET


class AnswerResult(msgspec.Struct):
    index: int
    relevance_score: float
    document: TextDocument | str | None = None
    embedding: list[float] | None = None


class AnswerDetails(msgspec.Struct):
    cached_tokens: int | None = None


class AnswerUsage(msgspec.Struct):
    prompt_tokens: int | None = None
    total_tokens: int | None = None
    prompt_tokens_details: AnswerDetails | None = None


class AnswerMeta(msgspec.Struct):
    warnings: list[str] | None = None


class SupersetAnswer(msgspec.Struct):
    """What servers of this kind answer: any part but the results may be absent or null."""

    results: list[AnswerResult]
    model: str | None = None
    usage: AnswerUsage | None = None
    meta: AnswerMeta | None = None


class SupersetResponse(msgspec.Struct):
    """Documents in order of relevance, best first."""

    model: str
    results: list[SupersetResult]
    usage: SupersetUsage
    id: str = ""
    object: Literal["rerank"] = "rerank"
    created: int = 0
    meta: Meta = msgspec.field(default_factory=Meta)


_requests = msgspec.json.Decoder(SupersetRequest)
_responses = msgspec.json.Decoder(SupersetAnswer)


class Superset:
    name = "superset"
    default_model = "jina-reranker-v2-base-multilingual"
    request_losses: frozenset[str] = frozenset()
    response_losses = frozenset({"usage.estimated"})

    def parse_request(self, body: bytes) -> RerankRequest:
        return root_request.parse(decode(_requests, body, EXPECTED), return_documents=True)

    def render_request(self, request: RerankRequest) -> bytes:
        return root_request.render(SupersetRequest, request, return_documents=request.return_documents)

    def render_response(self, response: RerankResponse, request: RerankRequest, call: Call) -> bytes:
        tokens = response.usage.total_tokens
        answer = SupersetResponse(
            id=call.request_id,
            created=call.created,
            model=request.model or response.model,
            results=[_rendered(result) for result in response.results],
            usage=SupersetUsage(
                prompt_tokens=response.usage.prompt_tokens,
                total_tokens=tokens,
                prompt_tokens_details=PromptTokensDetails(cached_tokens=response.usage.cached_tokens),
            ),
            meta=Meta(
                billed_units=BilledUnits(ceil(len(request.documents) / DOCUMENTS_PER_SEARCH_UNIT)),
                tokens=Tokens(input_tokens=tokens),
                warnings=list(response.warnings) or UNSET,
            ),
        )
        return msgspec.json.encode(answer)

    def parse_response(self, body: bytes, request: RerankRequest) -> RerankResponse:
        answer = decode_answer(_responses, body)
        return RerankResponse(
            model=answer.model or request.model or "",
            results=tuple(_parsed(result) for result in answer.results),
            usage=_counted(answer.usage),
            warnings=tuple(answer.meta.warnings or ()) if answer.meta else (),
        )

    def render_error(self, error: RerankError) -> tuple[int, bytes]:
        return root_error.render(error)

    def parse_error(self, status: int, headers: Mapping[str, str], body: bytes) -> RerankError:
        return root_error.parse(status, headers, body)

    def schemas(self) -> tuple[type[Any], type[Any]]:
        return SupersetRequest, SupersetResponse


def _rendered(result: Result) -> SupersetResult:
    return SupersetResult(
        result.index,
        result.relevance_score,
        UNSET if result.document is None else TextDocument(result.document.text),
        UNSET if result.embedding is None else list(result.embedding),
    )


def _parsed(result: AnswerResult) -> Result:
    text = result.document.text if isinstance(result.document, TextDocument) else result.document
    document = None if text is None else Document(text)
    return Result(
        result.index, result.relevance_score, document, None if result.embedding is None else tuple(result.embedding)
    )


def _counted(usage: AnswerUsage | None) -> Usage:
    """Tokens as they were counted there, the total where the prompt's are 0 or absent; `estimated` where nobody did."""
    tokens = (usage.prompt_tokens or usage.total_tokens) if usage else None
    details = usage.prompt_tokens_details if usage else None
    cached = (details.cached_tokens or 0) if details else 0
    return Usage(prompt_tokens=tokens or 0, cached_tokens=cached, estimated=usage is None)
