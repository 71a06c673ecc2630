"""Cohere's v1 API: POST /v1/rerank, as `cohere.Client` speaks it; documents may be objects, of which fields are ranked.

They come back only where they are asked for, and then as the client sent them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from rerankd.dialects import cohere_shapes
from rerankd.dialects.base import Codec
from rerankd.dialects.decoding import decode, reader
from rerankd.dialects.fields import EXPECTED, Chunks, TextField, documents_of, query_of, top_n_of
from rerankd.errors import RerankError
from rerankd.types import Call, RerankRequest, RerankResponse


class CohereV1Request(msgspec.Struct, omit_defaults=True):
    model: str | None = None
    query: str | None = None
    documents: list[TextField] | None = None
    top_n: int | None = None
    rank_fields: Annotated[
        list[str] | None, Meta(description="Of documents that are objects: the fields that are ranked; absent: `text`.")
    ] = None
    return_documents: bool | None = None
    max_chunks_per_doc: Annotated[
        Chunks | None, Meta(description="Score a long document in at most so many windows; the best counts.")
    ] = None


_requests = reader(CohereV1Request)


class CohereV1(Codec):
    name = "cohere_v1"
    title = "Cohere v1"
    prefix = "cohere"
    paths = ("/v1/rerank",)
    default_model = "rerank-english-v3.0"
    request_losses: Mapping[str, object] = {
        "documents.fields": None,
        "return_embeddings": False,
        "instruction": None,
        "max_tokens_per_doc": None,
        "overlap_tokens": None,
        "truncation": True,
        "raw_scores": None,
        "priority": "interactive",
        "unread": (),
    }
    response_losses = cohere_shapes.RESPONSE_LOSSES

    def parse_request(self, body: bytes) -> RerankRequest:
        fields = decode(_requests, body, EXPECTED)
        return RerankRequest(
            query=query_of(fields.query),
            documents=documents_of(fields.documents, rank_fields=fields.rank_fields),
            model=fields.model,
            top_n=top_n_of(fields.top_n),
            return_documents=bool(fields.return_documents),
            max_chunks_per_doc=fields.max_chunks_per_doc or None,
        )

    def render_request(self, request: RerankRequest) -> bytes:
        """Objects go out as the text of them that is ranked: an upstream's copy of a document is never passed on."""
        return msgspec.json.encode(
            CohereV1Request(
                model=request.model,
                query=request.query,
                documents=[document.text for document in request.documents],
                top_n=request.top_n,
                return_documents=request.return_documents or None,
                max_chunks_per_doc=request.max_chunks_per_doc,
            )
        )

    def render_response(self, response: RerankResponse, request: RerankRequest, call: Call) -> bytes:
        return cohere_shapes.render_response(response, request, call, "1")

    def parse_response(self, body: bytes, headers: Mapping[str, str], request: RerankRequest) -> RerankResponse:
        return cohere_shapes.parse_response(body, request)

    def render_error(self, error: RerankError, request_id: str) -> tuple[int, bytes]:
        return cohere_shapes.render_error(error, request_id)

    def parse_error(self, status: int, headers: Mapping[str, str], body: bytes) -> RerankError:
        return cohere_shapes.parse_error(status, headers, body)

    def schemas(self) -> tuple[Any, Any]:
        return CohereV1Request, cohere_shapes.CohereResponse
