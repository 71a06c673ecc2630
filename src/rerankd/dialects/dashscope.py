"""DashScope's own format (Alibaba Cloud Model Studio): a request nested in `input` and `parameters`, an answer in `output`.

It is what the `dashscope` SDK speaks. A query or a document may be an object, `{"text": ...}`, as its multimodal models take
them; a text that is too long is cut; an answer may be an error in spite of its status 200, and then has a `code`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from rerankd.dialects.base import Codec
from rerankd.dialects.decoding import decode, decode_answer, reader
from rerankd.dialects.error_bodies import message_in
from rerankd.dialects.fields import EXPECTED, TextField, documents_of, query_of, top_n_of
from rerankd.dialects.results import AnswerResult, Count, ObjectResult, object_results, results_of, usage_of
from rerankd.dialects.statuses import error_of, read
from rerankd.errors import RerankError, UpstreamMalformed
from rerankd.types import Call, RerankRequest, RerankResponse

CODES: Mapping[str, str] = {
    "invalid_api_key": "InvalidApiKey",
    "forbidden": "AccessDenied",
    "not_found": "InvalidURL",
    "model_not_found": "ModelNotFound",
    "request_timeout": "RequestTimeOut",
    "request_too_large": "BadRequest.TooLarge",
    "rate_limited": "Throttling.RateQuota",
    "overloaded": "ModelServingError",
    "deadline_exceeded": "InternalError.Timeout",
}
"""DashScope's names for our own codes."""
STATUSES: Mapping[str, int] = {
    "InvalidParameter": 400,
    "BadRequest": 400,
    "InvalidApiKey": 401,
    "AccessDenied": 403,
    "Arrearage": 403,
    "ModelNotFound": 404,
    "Throttling": 429,
    "ModelServingError": 503,
    "ModelUnavailable": 503,
}
"""What a code means by its part before the dot, for an answer with status 200 and where the status says less."""
TELLING = ("Arrearage", "InvalidApiKey", "Throttling")
"""Codes that say more than their status: an account in arrears has 400, and the caller is not to blame for it."""


class DashScopeInput(msgspec.Struct, omit_defaults=True):
    query: TextField | None = None
    documents: list[TextField] | None = None


class DashScopeParameters(msgspec.Struct, omit_defaults=True):
    top_n: int | None = None
    return_documents: bool | None = None
    instruct: str | None = None


class DashScopeRequest(msgspec.Struct, omit_defaults=True):
    model: str | None = None
    input: DashScopeInput | None = None
    parameters: DashScopeParameters | None = None


class DashScopeOutput(msgspec.Struct):
    results: list[ObjectResult]


class DashScopeUsage(msgspec.Struct):
    total_tokens: int = 0


class DashScopeResponse(msgspec.Struct):
    """Documents in order of relevance, best first."""

    output: DashScopeOutput
    usage: DashScopeUsage
    request_id: str


class DashScopeError(msgspec.Struct):
    code: str
    message: str = ""
    request_id: str = ""


class AnswerOutput(msgspec.Struct):
    results: list[AnswerResult]


class AnswerUsage(msgspec.Struct):
    input_tokens: Count | None = None
    total_tokens: Count | None = None


class DashScopeAnswer(msgspec.Struct):
    output: AnswerOutput | None = None
    usage: AnswerUsage | None = None
    code: str | None = None


NESTED = {**EXPECTED, "input": "an object with `query` and `documents`"}

_requests = reader(DashScopeRequest)
_answers = msgspec.json.Decoder(DashScopeAnswer)
_errors = msgspec.json.Decoder(DashScopeError)


class DashScope(Codec):
    name = "dashscope"
    title = "DashScope"
    paths = ("/api/v1/services/rerank/text-rerank/text-rerank",)
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
        {"model", "results.embedding", "usage.cached_tokens", "usage.estimated", "usage.search_units", "warnings"}
    )

    def parse_request(self, body: bytes) -> RerankRequest:
        fields = decode(_requests, body, NESTED)
        ranked, options = fields.input or DashScopeInput(), fields.parameters or DashScopeParameters()
        return RerankRequest(
            query=query_of(ranked.query, "input.query"),
            documents=documents_of(ranked.documents, "input.documents"),
            model=fields.model,
            top_n=top_n_of(options.top_n, "parameters.top_n"),
            return_documents=bool(options.return_documents),
            instruction=options.instruct or None,
        )

    def render_request(self, request: RerankRequest) -> bytes:
        """`parameters` is always there, since old models refuse a request without."""
        texts: list[TextField] = [document.text for document in request.documents]
        return msgspec.json.encode(
            DashScopeRequest(
                model=request.model,
                input=DashScopeInput(request.query, texts),
                parameters=DashScopeParameters(
                    top_n=request.top_n,
                    return_documents=request.return_documents or None,
                    instruct=request.instruction,
                ),
            )
        )

    def render_response(self, response: RerankResponse, request: RerankRequest, call: Call) -> bytes:
        output, usage = DashScopeOutput(object_results(response)), DashScopeUsage(response.usage.total_tokens)
        return msgspec.json.encode(DashScopeResponse(output, usage, call.request_id))

    def parse_response(self, body: bytes, headers: Mapping[str, str], request: RerankRequest) -> RerankResponse:
        answer = decode_answer(_answers, body)
        if answer.code:
            raise error_of(STATUSES.get(_kind(answer.code), 502), headers, message_in(body) or answer.code)
        if answer.output is None:
            raise UpstreamMalformed("The answer has no `output`.")
        usage = answer.usage or AnswerUsage()
        return RerankResponse(
            model=request.model or "",
            results=results_of(answer.output.results),
            usage=usage_of(usage.input_tokens, usage.total_tokens),
        )

    def render_error(self, error: RerankError, request_id: str) -> tuple[int, bytes]:
        code = CODES.get(error.code, "InvalidParameter" if error.status < 500 else "InternalError")
        return error.status, msgspec.json.encode(DashScopeError(code, error.message, request_id))

    def parse_error(self, status: int, headers: Mapping[str, str], body: bytes) -> RerankError:
        found = read(_errors, body)
        kind = _kind(found.code) if found else ""
        told = STATUSES[kind] if kind in TELLING else status
        return error_of(told, headers, message_in(body) or (found.code if found else None))

    def schemas(self) -> tuple[Any, Any]:
        return DashScopeRequest, DashScopeResponse


def _kind(code: str) -> str:
    return code.partition(".")[0]
