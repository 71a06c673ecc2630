"""DashScope's compatible mode (Alibaba Cloud Model Studio): a flat request, Jina's answer, OpenAI's error.

litellm and the OpenAI SDK speak it, on a path that ends in the plural `reranks`. In an error `param` is always there, null
where no field is to blame.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import msgspec

from rerankd.dialects.base import Codec
from rerankd.dialects.decoding import decode, decode_answer, reader
from rerankd.dialects.error_bodies import message_in
from rerankd.dialects.fields import EXPECTED, TextField, documents_of, query_of, top_n_of
from rerankd.dialects.openai_shapes import AnswerUsage, counted
from rerankd.dialects.results import AnswerResult, ObjectResult, object_results, results_of
from rerankd.dialects.root_error import ErrorDetail, kind_of
from rerankd.dialects.statuses import error_of
from rerankd.errors import RerankError
from rerankd.types import Call, RerankRequest, RerankResponse


class CompatibleRequest(msgspec.Struct, omit_defaults=True):
    model: str | None = None
    query: TextField | None = None
    documents: list[TextField] | None = None
    top_n: int | None = None
    return_documents: bool | None = None
    instruct: str | None = None


class CompatibleUsage(msgspec.Struct):
    total_tokens: int = 0


class CompatibleResponse(msgspec.Struct):
    """Documents in order of relevance, best first."""

    id: str
    model: str
    results: list[ObjectResult]
    usage: CompatibleUsage
    object: Literal["list"] = "list"


class CompatibleError(msgspec.Struct):
    error: ErrorDetail
    request_id: str


class CompatibleAnswer(msgspec.Struct):
    results: list[AnswerResult]
    model: str | None = None
    usage: AnswerUsage | None = None


_requests = reader(CompatibleRequest)
_answers = msgspec.json.Decoder(CompatibleAnswer)


class DashScopeCompatible(Codec):
    name = "dashscope_compatible"
    title = "DashScope, compatible mode"
    prefix = "dashscope"
    paths = ("/compatible-api/v1/reranks", "/compatible-mode/v1/reranks")
    request_losses: Mapping[str, object] = {
        "documents.fields": None,
        "return_embeddings": False,
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
            documents=documents_of(fields.documents),
            model=fields.model,
            top_n=top_n_of(fields.top_n),
            return_documents=bool(fields.return_documents),
            instruction=fields.instruct or None,
        )

    def render_request(self, request: RerankRequest) -> bytes:
        return msgspec.json.encode(
            CompatibleRequest(
                model=request.model,
                query=request.query,
                documents=[document.text for document in request.documents],
                top_n=request.top_n,
                return_documents=request.return_documents or None,
                instruct=request.instruction,
            )
        )

    def render_response(self, response: RerankResponse, request: RerankRequest, call: Call) -> bytes:
        return msgspec.json.encode(
            CompatibleResponse(
                id=call.request_id,
                model=request.model or response.model,
                results=object_results(response),
                usage=CompatibleUsage(response.usage.total_tokens),
            )
        )

    def parse_response(self, body: bytes, headers: Mapping[str, str], request: RerankRequest) -> RerankResponse:
        answer = decode_answer(_answers, body)
        return RerankResponse(
            model=answer.model or request.model or "",
            results=results_of(answer.results),
            usage=counted(answer.usage),
        )

    def render_error(self, error: RerankError, request_id: str) -> tuple[int, bytes]:
        detail = ErrorDetail(error.message, kind_of(error), error.code, error.param)
        return error.status, msgspec.json.encode(CompatibleError(detail, request_id))

    def parse_error(self, status: int, headers: Mapping[str, str], body: bytes) -> RerankError:
        return error_of(status, headers, message_in(body))

    def schemas(self) -> tuple[Any, Any]:
        return CompatibleRequest, CompatibleResponse
