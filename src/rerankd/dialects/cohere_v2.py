"""Cohere's v2 API: POST /v2/rerank, as `cohere.ClientV2` speaks it; documents go in and never come back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from rerankd.dialects import cohere_shapes
from rerankd.dialects.base import Codec
from rerankd.dialects.decoding import decode, reader
from rerankd.dialects.fields import EXPECTED, TextField, Tokens, documents_of, query_of, top_n_of
from rerankd.dialects.root_request import priority_of
from rerankd.errors import RerankError
from rerankd.types import Call, RerankRequest, RerankResponse


class CohereV2Request(msgspec.Struct, omit_defaults=True):
    model: str | None = None
    query: str | None = None
    documents: list[TextField] | None = None
    top_n: int | None = None
    max_tokens_per_doc: Annotated[
        Tokens | None, Meta(description="Read so many tokens of each document; absent: as many as the model can.")
    ] = None
    priority: Annotated[int | None, Meta(description="0 goes first; above 0 waits for others.")] = None


_requests = reader(CohereV2Request)


class CohereV2(Codec):
    name = "cohere_v2"
    title = "Cohere v2"
    prefix = "cohere"
    paths = ("/v2/rerank",)
    default_model = "rerank-v3.5"
    request_losses: Mapping[str, object] = {
        "documents.fields": None,
        "return_documents": False,
        "return_embeddings": False,
        "instruction": None,
        "max_chunks_per_doc": None,
        "overlap_tokens": None,
        "truncation": True,
        "raw_scores": None,
        "unread": (),
    }
    response_losses = cohere_shapes.RESPONSE_LOSSES

    def parse_request(self, body: bytes) -> RerankRequest:
        fields = decode(_requests, body, EXPECTED)
        return RerankRequest(
            query=query_of(fields.query),
            documents=documents_of(fields.documents),
            model=fields.model,
            top_n=top_n_of(fields.top_n),
            max_tokens_per_doc=fields.max_tokens_per_doc or None,
            priority=priority_of(fields.priority),
        )

    def render_request(self, request: RerankRequest) -> bytes:
        return msgspec.json.encode(
            CohereV2Request(
                model=request.model,
                query=request.query,
                documents=[document.text for document in request.documents],
                top_n=request.top_n,
                max_tokens_per_doc=request.max_tokens_per_doc,
                priority=1 if request.priority == "batch" else None,
            )
        )

    def render_response(self, response: RerankResponse, request: RerankRequest, call: Call) -> bytes:
        return cohere_shapes.render_response(response, request, call, "2")

    def parse_response(self, body: bytes, headers: Mapping[str, str], request: RerankRequest) -> RerankResponse:
        return cohere_shapes.parse_response(body, request)

    def render_error(self, error: RerankError, request_id: str) -> tuple[int, bytes]:
        return cohere_shapes.render_error(error, request_id)

    def parse_error(self, status: int, headers: Mapping[str, str], body: bytes) -> RerankError:
        return cohere_shapes.parse_error(status, headers, body)

    def schemas(self) -> tuple[Any, Any]:
        return CohereV2Request, cohere_shapes.CohereResponse
