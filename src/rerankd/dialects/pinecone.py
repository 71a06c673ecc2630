"""Pinecone's API: POST /rerank, where documents are objects that come back whole unless the client says no.

`rank_fields` says which of an object's fields are ranked. A text that is too long is an error unless `parameters.truncate`
is END, as for Pinecone's bge-reranker-v2-m3. Units are billed, one for a query with up to 100 documents; no tokens are
counted.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

from rerankd.dialects.base import Codec
from rerankd.dialects.decoding import decode, decode_answer, reader
from rerankd.dialects.error_bodies import message_in
from rerankd.dialects.fields import EXPECTED, Chunks, TextField, documents_of, query_of, top_n_of
from rerankd.dialects.results import Count, document_of, search_units, usage_of
from rerankd.dialects.statuses import error_of
from rerankd.errors import RerankError
from rerankd.types import Call, Document, RerankRequest, RerankResponse, Result

CODES: Mapping[int, str] = {
    401: "UNAUTHENTICATED",
    403: "FORBIDDEN",
    404: "NOT_FOUND",
    422: "UNPROCESSABLE_ENTITY",
    429: "RESOURCE_EXHAUSTED",
    500: "INTERNAL",
    503: "UNAVAILABLE",
    504: "DEADLINE_EXCEEDED",
}


class PineconeParameters(msgspec.Struct, omit_defaults=True):
    """What a model can do besides; `max_chunks_per_doc` is that of Cohere's."""

    truncate: Literal["END", "NONE"] | None = None
    max_chunks_per_doc: Chunks | None = None


class PineconeRequest(msgspec.Struct, omit_defaults=True):
    model: str | None = None
    query: str | None = None
    documents: list[TextField] | None = None
    rank_fields: Annotated[list[str] | None, Meta(description="The fields that are ranked; absent: `text`.")] = None
    top_n: int | None = None
    return_documents: bool | None = None
    parameters: PineconeParameters | None = None


class PineconeResult(msgspec.Struct):
    index: int
    score: float
    document: dict[str, Any] | UnsetType = UNSET


class PineconeUsage(msgspec.Struct):
    rerank_units: int = 0


class PineconeResponse(msgspec.Struct):
    """Documents in order of relevance, best first."""

    model: str
    data: list[PineconeResult]
    usage: PineconeUsage


class PineconeDetail(msgspec.Struct):
    code: str
    message: str


class PineconeError(msgspec.Struct):
    error: PineconeDetail
    status: int


class AnswerResult(msgspec.Struct):
    index: int
    score: float
    document: dict[str, Any] | None = None


class AnswerUsage(msgspec.Struct):
    rerank_units: Count | None = None


class PineconeAnswer(msgspec.Struct):
    data: list[AnswerResult]
    model: str | None = None
    usage: AnswerUsage | None = None


CHOICES = {**EXPECTED, "truncate": '"END" or "NONE"'}

_requests = reader(PineconeRequest)
_answers = msgspec.json.Decoder(PineconeAnswer)


class Pinecone(Codec):
    name = "pinecone"
    title = "Pinecone"
    paths = ("/rerank",)
    default_model = "bge-reranker-v2-m3"
    request_losses: Mapping[str, object] = {
        "documents.fields": None,
        "return_embeddings": False,
        "instruction": None,
        "max_tokens_per_doc": None,
        "overlap_tokens": None,
        "raw_scores": None,
        "priority": "interactive",
        "unread": (),
    }
    response_losses = frozenset({"results.embedding", "usage.prompt_tokens", "usage.cached_tokens", "warnings"})

    def parse_request(self, body: bytes) -> RerankRequest:
        fields = decode(_requests, body, CHOICES)
        options = fields.parameters or PineconeParameters()
        return RerankRequest(
            query=query_of(fields.query),
            documents=documents_of(fields.documents, rank_fields=fields.rank_fields),
            model=fields.model,
            top_n=top_n_of(fields.top_n),
            return_documents=fields.return_documents is not False,
            truncation=options.truncate == "END",
            max_chunks_per_doc=options.max_chunks_per_doc or None,
        )

    def render_request(self, request: RerankRequest) -> bytes:
        """Whether to cut is always said, since what it is without differs from model to model."""
        return msgspec.json.encode(
            PineconeRequest(
                model=request.model,
                query=request.query,
                documents=[{"text": document.text} for document in request.documents],
                rank_fields=["text"],
                top_n=request.top_n,
                return_documents=request.return_documents,
                parameters=PineconeParameters(
                    truncate="END" if request.truncation else "NONE", max_chunks_per_doc=request.max_chunks_per_doc
                ),
            )
        )

    def render_response(self, response: RerankResponse, request: RerankRequest, call: Call) -> bytes:
        return msgspec.json.encode(
            PineconeResponse(
                model=request.model or response.model,
                data=[_rendered(result) for result in response.results],
                usage=PineconeUsage(search_units(response, request)),
            )
        )

    def parse_response(self, body: bytes, headers: Mapping[str, str], request: RerankRequest) -> RerankResponse:
        answer = decode_answer(_answers, body)
        units = answer.usage.rerank_units if answer.usage else None
        return RerankResponse(
            model=answer.model or request.model or "",
            results=tuple(Result(one.index, one.score, document_of(one.document)) for one in answer.data),
            usage=usage_of(None, search_units=units),
        )

    def render_error(self, error: RerankError, request_id: str) -> tuple[int, bytes]:
        code = CODES.get(error.status, "INVALID_ARGUMENT" if error.status < 500 else "UNKNOWN")
        return error.status, msgspec.json.encode(PineconeError(PineconeDetail(code, error.message), error.status))

    def parse_error(self, status: int, headers: Mapping[str, str], body: bytes) -> RerankError:
        return error_of(status, headers, message_in(body))

    def schemas(self) -> tuple[Any, Any]:
        return PineconeRequest, PineconeResponse


def _rendered(result: Result) -> PineconeResult:
    return PineconeResult(
        result.index, result.relevance_score, UNSET if result.document is None else _sent(result.document)
    )


def _sent(document: Document) -> dict[str, Any]:
    """The object that the client sent; none of its fields is added to, since it is read by the client's own names."""
    return {"text": document.text} if document.fields is None else document.fields
