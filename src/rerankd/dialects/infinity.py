"""Infinity (michaelfeil/infinity): POST /rerank, whose documents are strings both ways.

Its generated client is strict: `object` must be "rerank".
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import msgspec
from msgspec import UNSET, UnsetType

from rerankd.dialects import infinity_error, openai_shapes
from rerankd.dialects.base import Codec
from rerankd.dialects.decoding import decode, decode_answer, reader
from rerankd.dialects.fields import EXPECTED, TextField, documents_of, query_of, top_n_of
from rerankd.dialects.openai_shapes import AnswerUsage, TokenUsage, counted, token_usage
from rerankd.dialects.results import AnswerResult, results_of
from rerankd.errors import RerankError
from rerankd.types import Call, RerankRequest, RerankResponse

NOT_SPECIFIED = "default/not-specified"
"""What its client sends as `model` where the user named none."""


class InfinityRequest(msgspec.Struct, omit_defaults=True):
    """`raw_scores` true are logits, false probabilities; absent leaves the model its own scale."""

    model: str | None = None
    query: TextField | None = None
    documents: list[TextField] | None = None
    top_n: int | None = None
    return_documents: bool | None = None
    raw_scores: bool | None = None


class InfinityResult(msgspec.Struct):
    relevance_score: float
    index: int
    document: str | UnsetType = UNSET


class InfinityResponse(msgspec.Struct, kw_only=True):
    """Documents in order of relevance, best first."""

    object: Literal["rerank"] = "rerank"
    results: list[InfinityResult]
    model: str
    usage: TokenUsage
    id: str
    created: int


class InfinityAnswer(msgspec.Struct):
    results: list[AnswerResult]
    model: str | None = None
    usage: AnswerUsage | None = None


_requests = reader(InfinityRequest)
_responses = msgspec.json.Decoder(InfinityAnswer)


class Infinity(Codec):
    name = "infinity"
    title = "Infinity"
    paths = ("/rerank",)
    request_losses: Mapping[str, object] = {
        "documents.fields": None,
        "return_embeddings": False,
        "instruction": None,
        "max_tokens_per_doc": None,
        "max_chunks_per_doc": None,
        "overlap_tokens": None,
        "truncation": True,
        "priority": "interactive",
        "unread": (),
    }
    response_losses = openai_shapes.RESPONSE_LOSSES | {"documents.fields"}

    def parse_request(self, body: bytes) -> RerankRequest:
        fields = decode(_requests, body, EXPECTED)
        return RerankRequest(
            query=query_of(fields.query),
            documents=documents_of(fields.documents),
            model=None if fields.model == NOT_SPECIFIED else fields.model,
            top_n=top_n_of(fields.top_n),
            return_documents=bool(fields.return_documents),
            raw_scores=fields.raw_scores,
        )

    def render_request(self, request: RerankRequest) -> bytes:
        return msgspec.json.encode(
            InfinityRequest(
                model=request.model,
                query=request.query,
                documents=[document.text for document in request.documents],
                top_n=request.top_n,
                return_documents=request.return_documents or None,
                raw_scores=request.raw_scores,
            )
        )

    def render_response(self, response: RerankResponse, request: RerankRequest, call: Call) -> bytes:
        return msgspec.json.encode(
            InfinityResponse(
                results=[
                    InfinityResult(one.relevance_score, one.index, UNSET if one.document is None else one.document.text)
                    for one in response.results
                ],
                model=request.model or response.model,
                usage=token_usage(response.usage),
                id=f"infinity-{call.request_id}",
                created=call.created,
            )
        )

    def parse_response(self, body: bytes, headers: Mapping[str, str], request: RerankRequest) -> RerankResponse:
        answer = decode_answer(_responses, body)
        return RerankResponse(
            model=answer.model or request.model or "",
            results=results_of(answer.results),
            usage=counted(answer.usage),
        )

    def render_error(self, error: RerankError, request_id: str) -> tuple[int, bytes]:
        return infinity_error.render(error)

    def parse_error(self, status: int, headers: Mapping[str, str], body: bytes) -> RerankError:
        return infinity_error.parse(status, headers, body)

    def schemas(self) -> tuple[Any, Any]:
        return InfinityRequest, InfinityResponse
