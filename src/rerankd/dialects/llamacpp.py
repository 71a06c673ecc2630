"""llama.cpp's server: POST /v1/rerank, /rerank and two older paths; documents go in and never come back.

On the same paths it answers `texts` as Text Embeddings Inference does. That is another format with another answer, so that
this one reads `documents` alone, and whoever routes requests hands those with `texts` to the codec of `tei`.

Scores are logits here: llama.cpp passes on what the model's rank head says, which is one for bge's and jina's rerankers,
and its clients squash it or compare it with a threshold of that scale. Probabilities in their place would be squashed a
second time. A model that has no logits keeps its own scale, and the request is told so.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import msgspec

from rerankd.dialects import openai_shapes
from rerankd.dialects.base import Codec
from rerankd.dialects.decoding import decode, decode_answer, reader
from rerankd.dialects.fields import EXPECTED, TextField, documents_of, query_of, top_n_of
from rerankd.dialects.openai_shapes import AnswerUsage, TokenUsage, counted, token_usage
from rerankd.errors import ClientError, RerankError, TooLarge
from rerankd.types import Call, RerankRequest, RerankResponse, Result

TOO_LONG = "too large to process"
"""In the message of a 500 there, about a text that is longer than the physical batch: the caller's fault all the same."""

TYPES: Mapping[int, str] = {
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    429: "unavailable_error",
    503: "unavailable_error",
}


class LlamacppRequest(msgspec.Struct, omit_defaults=True):
    """What is too long for the model is an error."""

    model: str | None = None
    query: TextField | None = None
    documents: list[TextField] | None = None
    top_n: int | None = None


class LlamacppResult(msgspec.Struct):
    index: int
    relevance_score: float


class LlamacppResponse(msgspec.Struct, kw_only=True):
    """Documents in order of relevance, best first."""

    model: str
    object: Literal["list"] = "list"
    usage: TokenUsage
    results: list[LlamacppResult]


class LlamacppAnswer(msgspec.Struct):
    results: list[LlamacppResult]
    model: str | None = None
    usage: AnswerUsage | None = None


class ErrorDetail(msgspec.Struct):
    code: int
    message: str
    type: str


class LlamacppError(msgspec.Struct):
    error: ErrorDetail


_requests = reader(LlamacppRequest)
_responses = msgspec.json.Decoder(LlamacppAnswer)


class Llamacpp(Codec):
    name = "llamacpp"
    title = "llama.cpp"
    paths = ("/v1/rerank", "/rerank", "/v1/reranking", "/reranking")
    request_losses: Mapping[str, object] = {
        "documents.fields": None,
        "return_documents": False,
        "return_embeddings": False,
        "instruction": None,
        "max_tokens_per_doc": None,
        "max_chunks_per_doc": None,
        "overlap_tokens": None,
        "truncation": False,
        "raw_scores": True,
        "priority": "interactive",
        "unread": (),
    }
    response_losses = openai_shapes.RESPONSE_LOSSES | {"results.document"}

    def parse_request(self, body: bytes) -> RerankRequest:
        fields = decode(_requests, body, EXPECTED)
        return RerankRequest(
            query=query_of(fields.query),
            documents=documents_of(fields.documents),
            model=fields.model,
            top_n=top_n_of(fields.top_n),
            truncation=False,
            raw_scores=True,
        )

    def render_request(self, request: RerankRequest) -> bytes:
        return msgspec.json.encode(
            LlamacppRequest(
                model=request.model,
                query=request.query,
                documents=[document.text for document in request.documents],
                top_n=request.top_n,
            )
        )

    def render_response(self, response: RerankResponse, request: RerankRequest, call: Call) -> bytes:
        return msgspec.json.encode(
            LlamacppResponse(
                model=request.model or response.model,
                usage=token_usage(response.usage),
                results=[LlamacppResult(one.index, one.relevance_score) for one in response.results],
            )
        )

    def parse_response(self, body: bytes, headers: Mapping[str, str], request: RerankRequest) -> RerankResponse:
        answer = decode_answer(_responses, body)
        return RerankResponse(
            model=answer.model or request.model or "",
            results=tuple(Result(one.index, one.relevance_score) for one in answer.results),
            usage=counted(answer.usage),
        )

    def render_error(self, error: RerankError, request_id: str) -> tuple[int, bytes]:
        other = "invalid_request_error" if isinstance(error, ClientError) else "server_error"
        detail = ErrorDetail(error.status, error.message, TYPES.get(error.status, other))
        return error.status, msgspec.json.encode(LlamacppError(detail))

    def parse_error(self, status: int, headers: Mapping[str, str], body: bytes) -> RerankError:
        error = openai_shapes.parse_error(status, headers, body)
        return TooLarge(error.message) if status == 500 and TOO_LONG in error.message else error

    def schemas(self) -> tuple[Any, Any]:
        return LlamacppRequest, LlamacppResponse
