"""Mixedbread's API: POST /v1/reranking, where documents are called `input` and come back as they went in, text or object."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

from rerankd.dialects.base import Codec
from rerankd.dialects.decoding import decode, decode_answer, reader
from rerankd.dialects.error_bodies import message_in
from rerankd.dialects.fields import EXPECTED, TextField, documents_of, query_of, top_n_of, used
from rerankd.dialects.openai_shapes import AnswerUsage, TokenUsage, counted, token_usage
from rerankd.dialects.results import document_of
from rerankd.dialects.root_error import ErrorDetail, kind_of
from rerankd.dialects.statuses import error_of
from rerankd.errors import RerankError
from rerankd.types import Call, Document, RerankRequest, RerankResponse, Result


class MixedbreadRequest(msgspec.Struct, omit_defaults=True):
    model: str | None = None
    query: str | None = None
    input: list[TextField] | None = None
    rank_fields: list[str] | None = None
    top_k: int | None = None
    return_input: bool | None = None
    rewrite_query: Annotated[bool | None, Meta(description="Not honoured: queries are ranked as they are.")] = None


class RankResult(msgspec.Struct):
    """`input` is there only where it was asked for."""

    index: int
    score: float
    input: TextField | UnsetType = UNSET
    object: Literal["rank_result"] = "rank_result"


class MixedbreadResponse(msgspec.Struct):
    """Documents in order of relevance, best first."""

    usage: TokenUsage
    model: str
    data: list[RankResult]
    top_k: int
    return_input: bool
    object: Literal["list"] = "list"


class MixedbreadError(msgspec.Struct):
    """`param` is null where no field is to blame: clients demand that it is there."""

    error: ErrorDetail


class AnswerResult(msgspec.Struct):
    index: int
    score: float
    input: TextField | None = None


class MixedbreadAnswer(msgspec.Struct):
    data: list[AnswerResult]
    model: str | None = None
    usage: AnswerUsage | None = None


_requests = reader(MixedbreadRequest)
_answers = msgspec.json.Decoder(MixedbreadAnswer)


class Mixedbread(Codec):
    name = "mixedbread"
    title = "Mixedbread"
    paths = ("/v1/reranking",)
    request_losses: Mapping[str, object] = {
        "documents.fields": None,
        "return_embeddings": False,
        "instruction": None,
        "max_tokens_per_doc": None,
        "max_chunks_per_doc": None,
        "overlap_tokens": None,
        "truncation": True,
        "raw_scores": None,
        "priority": "interactive",
        "unread": (),
    }
    response_losses = frozenset(
        {"results.embedding", "usage.cached_tokens", "usage.estimated", "usage.search_units", "warnings"}
    )

    def parse_request(self, body: bytes) -> RerankRequest:
        fields = decode(_requests, body, EXPECTED)
        return RerankRequest(
            query=query_of(fields.query),
            documents=documents_of(fields.input, "input", fields.rank_fields),
            model=fields.model,
            top_n=top_n_of(fields.top_k, "top_k"),
            return_documents=bool(fields.return_input),
            unread=used(rewrite_query=fields.rewrite_query or None),
        )

    def render_request(self, request: RerankRequest) -> bytes:
        return msgspec.json.encode(
            MixedbreadRequest(
                model=request.model,
                query=request.query,
                input=[document.text for document in request.documents],
                top_k=request.top_n or len(request.documents),
                return_input=request.return_documents,
            )
        )

    def render_response(self, response: RerankResponse, request: RerankRequest, call: Call) -> bytes:
        return msgspec.json.encode(
            MixedbreadResponse(
                usage=token_usage(response.usage),
                model=request.model or response.model,
                data=[_rendered(result) for result in response.results],
                top_k=request.top_n or len(request.documents),
                return_input=request.return_documents,
            )
        )

    def parse_response(self, body: bytes, headers: Mapping[str, str], request: RerankRequest) -> RerankResponse:
        answer = decode_answer(_answers, body)
        return RerankResponse(
            model=answer.model or request.model or "",
            results=tuple(Result(one.index, one.score, document_of(one.input)) for one in answer.data),
            usage=counted(answer.usage),
        )

    def render_error(self, error: RerankError, request_id: str) -> tuple[int, bytes]:
        detail = ErrorDetail(error.message, kind_of(error), error.code, error.param)
        return error.status, msgspec.json.encode(MixedbreadError(detail))

    def parse_error(self, status: int, headers: Mapping[str, str], body: bytes) -> RerankError:
        return error_of(status, headers, message_in(body))

    def schemas(self) -> tuple[Any, Any]:
        return MixedbreadRequest, MixedbreadResponse


def _rendered(result: Result) -> RankResult:
    return RankResult(
        result.index, result.relevance_score, UNSET if result.document is None else _sent(result.document)
    )


def _sent(document: Document) -> TextField:
    return document.text if document.fields is None else document.fields
