"""Jina's API: POST /v1/rerank, as LangChain, Haystack and LlamaIndex call it; documents come back unless the client says no.

The same answers come from New API, DMXAPI, one-hub, LocalAI and GPUStack, which leave out the model, count nothing, or send
documents without their text.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from rerankd.dialects.base import Codec
from rerankd.dialects.decoding import decode, decode_answer, reader
from rerankd.dialects.error_bodies import message_in, render_detail
from rerankd.dialects.fields import EXPECTED, TextField, Tokens, documents_of, query_of, top_n_of
from rerankd.dialects.jina_shapes import (
    AnswerUsage,
    JinaAnswerResult,
    JinaResult,
    LongUsage,
    counted,
    jina_results,
    long_usage,
    results_of,
)
from rerankd.dialects.statuses import error_of
from rerankd.errors import RerankError
from rerankd.types import Call, RerankRequest, RerankResponse


class JinaRequest(msgspec.Struct, omit_defaults=True):
    model: str | None = None
    query: TextField | None = None
    documents: list[TextField] | None = None
    top_n: int | None = None
    return_documents: Annotated[bool | None, Meta(description="True unless said otherwise.")] = None
    return_embeddings: bool | None = None
    max_doc_length: Annotated[Tokens | None, Meta(description="Read so many tokens of each document.")] = None
    truncation: Annotated[
        bool | None, Meta(description="False: what is too long for the model is an error instead of a cut.")
    ] = None


class JinaResponse(msgspec.Struct):
    """Documents in order of relevance, best first."""

    model: str
    usage: LongUsage
    results: list[JinaResult]
    object: Literal["list"] = "list"


class JinaAnswer(msgspec.Struct):
    results: list[JinaAnswerResult]
    model: str | None = None
    usage: AnswerUsage | None = None


_requests = reader(JinaRequest)
_answers = msgspec.json.Decoder(JinaAnswer)


class Jina(Codec):
    name = "jina"
    title = "Jina"
    paths = ("/v1/rerank",)
    default_model = "jina-reranker-v2-base-multilingual"
    request_losses: Mapping[str, object] = {
        "documents.fields": None,
        "instruction": None,
        "max_chunks_per_doc": None,
        "overlap_tokens": None,
        "raw_scores": None,
        "priority": "interactive",
        "unread": (),
    }
    response_losses = frozenset({"usage.estimated", "usage.search_units", "warnings"})

    def parse_request(self, body: bytes) -> RerankRequest:
        fields = decode(_requests, body, EXPECTED)
        return RerankRequest(
            query=query_of(fields.query),
            documents=documents_of(fields.documents),
            model=fields.model,
            top_n=top_n_of(fields.top_n),
            return_documents=fields.return_documents is not False,
            return_embeddings=bool(fields.return_embeddings),
            max_tokens_per_doc=fields.max_doc_length or None,
            truncation=fields.truncation is not False,
        )

    def render_request(self, request: RerankRequest) -> bytes:
        return msgspec.json.encode(
            JinaRequest(
                model=request.model,
                query=request.query,
                documents=[document.text for document in request.documents],
                top_n=request.top_n,
                return_documents=request.return_documents,
                return_embeddings=request.return_embeddings or None,
                max_doc_length=request.max_tokens_per_doc,
                truncation=None if request.truncation else False,
            )
        )

    def render_response(self, response: RerankResponse, request: RerankRequest, call: Call) -> bytes:
        model = request.model or response.model
        return msgspec.json.encode(JinaResponse(model, long_usage(response.usage), jina_results(response)))

    def parse_response(self, body: bytes, headers: Mapping[str, str], request: RerankRequest) -> RerankResponse:
        answer = decode_answer(_answers, body)
        return RerankResponse(
            model=answer.model or request.model or "",
            results=results_of(answer.results),
            usage=counted(answer.usage),
        )

    def render_error(self, error: RerankError, request_id: str) -> tuple[int, bytes]:
        return render_detail(error)

    def parse_error(self, status: int, headers: Mapping[str, str], body: bytes) -> RerankError:
        return error_of(status, headers, message_in(body))

    def schemas(self) -> tuple[Any, Any]:
        return JinaRequest, JinaResponse
