"""Together's API: POST /v1/rerank, as the `together` client speaks it; Cohere's request, and an answer that counts tokens.

Of documents that are objects every key is ranked where `rank_fields` are absent. `param` and `code` of an error may be null.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from rerankd.dialects.base import Codec
from rerankd.dialects.decoding import decode, decode_answer, reader
from rerankd.dialects.error_bodies import message_in
from rerankd.dialects.fields import EXPECTED, TextField, documents_of, query_of, top_n_of
from rerankd.dialects.jina_shapes import AnswerUsage, counted
from rerankd.dialects.results import AnswerResult, ObjectResult, object_results, results_of
from rerankd.dialects.root_error import ErrorDetail, kind_of
from rerankd.dialects.statuses import error_of
from rerankd.errors import RerankError
from rerankd.types import Call, RerankRequest, RerankResponse


class TogetherRequest(msgspec.Struct, omit_defaults=True):
    model: str | None = None
    query: str | None = None
    documents: list[TextField] | None = None
    top_n: int | None = None
    return_documents: bool | None = None
    rank_fields: Annotated[
        list[str] | None, Meta(description="Of documents that are objects: the fields that are ranked; absent: all.")
    ] = None


class TogetherUsage(msgspec.Struct):
    """Tokens fed to the model, counted with its own tokenizer."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int


class TogetherResponse(msgspec.Struct):
    """Documents in order of relevance, best first."""

    id: str
    model: str
    results: list[ObjectResult]
    usage: TogetherUsage
    object: Literal["rerank"] = "rerank"


class TogetherAnswer(msgspec.Struct):
    results: list[AnswerResult]
    model: str | None = None
    usage: AnswerUsage | None = None


class TogetherError(msgspec.Struct):
    error: ErrorDetail


_requests = reader(TogetherRequest)
_answers = msgspec.json.Decoder(TogetherAnswer)


class Together(Codec):
    name = "together"
    title = "Together"
    paths = ("/v1/rerank", "/rerank")
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
        {"usage.cached_tokens", "usage.estimated", "usage.search_units", "results.embedding", "warnings"}
    )

    def parse_request(self, body: bytes) -> RerankRequest:
        fields = decode(_requests, body, EXPECTED)
        rank_fields = fields.rank_fields or _every_key(fields.documents or ())
        return RerankRequest(
            query=query_of(fields.query),
            documents=documents_of(fields.documents, rank_fields=rank_fields),
            model=fields.model,
            top_n=top_n_of(fields.top_n),
            return_documents=bool(fields.return_documents),
        )

    def render_request(self, request: RerankRequest) -> bytes:
        return msgspec.json.encode(
            TogetherRequest(
                model=request.model,
                query=request.query,
                documents=[document.text for document in request.documents],
                top_n=request.top_n,
                return_documents=request.return_documents or None,
            )
        )

    def render_response(self, response: RerankResponse, request: RerankRequest, call: Call) -> bytes:
        usage = TogetherUsage(response.usage.prompt_tokens, 0, response.usage.total_tokens)
        model = request.model or response.model
        return msgspec.json.encode(TogetherResponse(call.request_id, model, object_results(response), usage))

    def parse_response(self, body: bytes, headers: Mapping[str, str], request: RerankRequest) -> RerankResponse:
        answer = decode_answer(_answers, body)
        return RerankResponse(
            model=answer.model or request.model or "",
            results=results_of(answer.results),
            usage=counted(answer.usage),
        )

    def render_error(self, error: RerankError, request_id: str) -> tuple[int, bytes]:
        detail = ErrorDetail(message=error.message, type=kind_of(error), code=error.code, param=error.param)
        return error.status, msgspec.json.encode(TogetherError(detail))

    def parse_error(self, status: int, headers: Mapping[str, str], body: bytes) -> RerankError:
        return error_of(status, headers, message_in(body))

    def schemas(self) -> tuple[Any, Any]:
        return TogetherRequest, TogetherResponse


def _every_key(documents: Sequence[TextField]) -> list[str]:
    return list(dict.fromkeys(name for item in documents if isinstance(item, dict) for name in item))
