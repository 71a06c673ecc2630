"""Voyage's API: POST /v1/rerank, as `voyageai.Client` speaks it; results stand in `data`, and a document is a string.

Its client needs `usage.total_tokens` in an answer and a string `detail` in an error.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from rerankd.dialects.base import Codec
from rerankd.dialects.decoding import decode, decode_answer, reader
from rerankd.dialects.error_bodies import message_in, render_detail
from rerankd.dialects.fields import EXPECTED, TextField, documents_of, query_of, top_n_of
from rerankd.dialects.results import AnswerResult, Count, StringResult, results_of, string_results, usage_of
from rerankd.dialects.statuses import error_of
from rerankd.errors import RerankError
from rerankd.types import Call, RerankRequest, RerankResponse


class VoyageRequest(msgspec.Struct, omit_defaults=True):
    model: str | None = None
    query: str | None = None
    documents: list[TextField] | None = None
    top_k: Annotated[int | None, Meta(description="0, null and absent mean all documents.")] = None
    return_documents: bool | None = None
    truncation: Annotated[
        bool | None, Meta(description="False: what is too long for the model is an error instead of a cut.")
    ] = None


class VoyageUsage(msgspec.Struct):
    """Tokens fed to the model: the query counts once per document."""

    total_tokens: int


class VoyageResponse(msgspec.Struct):
    """Documents in order of relevance, best first."""

    data: list[StringResult]
    model: str
    usage: VoyageUsage
    object: Literal["list"] = "list"


class VoyageAnswerUsage(msgspec.Struct):
    total_tokens: Count | None = None


class VoyageAnswer(msgspec.Struct):
    data: list[AnswerResult]
    model: str | None = None
    usage: VoyageAnswerUsage | None = None


_requests = reader(VoyageRequest)
_answers = msgspec.json.Decoder(VoyageAnswer)


class Voyage(Codec):
    name = "voyage"
    title = "Voyage"
    paths = ("/v1/rerank",)
    request_losses: Mapping[str, object] = {
        "documents.fields": None,
        "return_embeddings": False,
        "instruction": None,
        "max_tokens_per_doc": None,
        "max_chunks_per_doc": None,
        "overlap_tokens": None,
        "raw_scores": None,
        "priority": "interactive",
        "unread": (),
    }
    response_losses = frozenset(
        {
            "documents.fields",
            "usage.cached_tokens",
            "usage.estimated",
            "usage.search_units",
            "results.embedding",
            "warnings",
        }
    )

    def parse_request(self, body: bytes) -> RerankRequest:
        fields = decode(_requests, body, EXPECTED)
        return RerankRequest(
            query=query_of(fields.query),
            documents=documents_of(fields.documents),
            model=fields.model,
            top_n=top_n_of(fields.top_k, "top_k"),
            return_documents=bool(fields.return_documents),
            truncation=fields.truncation is not False,
        )

    def render_request(self, request: RerankRequest) -> bytes:
        return msgspec.json.encode(
            VoyageRequest(
                model=request.model,
                query=request.query,
                documents=[document.text for document in request.documents],
                top_k=request.top_n,
                return_documents=request.return_documents or None,
                truncation=None if request.truncation else False,
            )
        )

    def render_response(self, response: RerankResponse, request: RerankRequest, call: Call) -> bytes:
        usage = VoyageUsage(response.usage.total_tokens)
        return msgspec.json.encode(VoyageResponse(string_results(response), request.model or response.model, usage))

    def parse_response(self, body: bytes, headers: Mapping[str, str], request: RerankRequest) -> RerankResponse:
        answer = decode_answer(_answers, body)
        return RerankResponse(
            model=answer.model or request.model or "",
            results=results_of(answer.data),
            usage=usage_of(answer.usage.total_tokens if answer.usage else None),
        )

    def render_error(self, error: RerankError, request_id: str) -> tuple[int, bytes]:
        return render_detail(error)

    def parse_error(self, status: int, headers: Mapping[str, str], body: bytes) -> RerankError:
        return error_of(status, headers, message_in(body))

    def schemas(self) -> tuple[Any, Any]:
        return VoyageRequest, VoyageResponse
