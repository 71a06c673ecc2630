"""vLLM: POST /v1/rerank, /rerank and /v2/rerank, one handler that gives every document back whether asked or not.

A document comes back as `{"text", "multi_modal"}`, of which the latter is null for texts. `top_n` 0 means all.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
from msgspec import UNSET, UnsetType

from rerankd.dialects import openai_shapes, vllm_shapes
from rerankd.dialects.base import Codec
from rerankd.dialects.decoding import decode, decode_answer, reader
from rerankd.dialects.fields import EXPECTED, TextField, documents_of, query_of, top_n_of
from rerankd.dialects.openai_shapes import AnswerUsage, TokenUsage, counted, token_usage
from rerankd.dialects.results import document_of
from rerankd.dialects.vllm_shapes import VllmOptions
from rerankd.errors import RerankError
from rerankd.types import Call, RerankRequest, RerankResponse, Result


class VllmRequest(VllmOptions, omit_defaults=True):
    query: TextField | None = None
    documents: list[TextField] | None = None
    top_n: int | None = None


class VllmDocument(msgspec.Struct):
    text: str
    multi_modal: None = None


class VllmResult(msgspec.Struct, kw_only=True):
    index: int
    document: VllmDocument | UnsetType = UNSET
    relevance_score: float


class VllmResponse(msgspec.Struct):
    """Documents in order of relevance, best first."""

    id: str
    model: str
    usage: TokenUsage
    results: list[VllmResult]


class AnswerDocument(msgspec.Struct):
    text: str | None = None


class AnswerResult(msgspec.Struct):
    index: int
    relevance_score: float
    document: AnswerDocument | str | None = None


class VllmAnswer(msgspec.Struct):
    results: list[AnswerResult]
    model: str | None = None
    usage: AnswerUsage | None = None


_requests = reader(VllmRequest)
_responses = msgspec.json.Decoder(VllmAnswer)


class Vllm(Codec):
    name = "vllm"
    title = "vLLM"
    paths = ("/v1/rerank", "/rerank", "/v2/rerank")
    request_losses: Mapping[str, object] = {**vllm_shapes.REQUEST_LOSSES, "return_documents": True}
    response_losses = openai_shapes.RESPONSE_LOSSES | {"documents.fields"}

    def parse_request(self, body: bytes) -> RerankRequest:
        fields = decode(_requests, body, EXPECTED)
        return vllm_shapes.parse(
            fields,
            query_of(fields.query),
            documents_of(fields.documents),
            top_n=top_n_of(fields.top_n),
            return_documents=True,
        )

    def render_request(self, request: RerankRequest) -> bytes:
        documents = [document.text for document in request.documents]
        return vllm_shapes.render(VllmRequest, request, query=request.query, documents=documents, top_n=request.top_n)

    def render_response(self, response: RerankResponse, request: RerankRequest, call: Call) -> bytes:
        return msgspec.json.encode(
            VllmResponse(
                id=f"score-{call.request_id}",
                model=request.model or response.model,
                usage=token_usage(response.usage),
                results=[_rendered(result) for result in response.results],
            )
        )

    def parse_response(self, body: bytes, headers: Mapping[str, str], request: RerankRequest) -> RerankResponse:
        answer = decode_answer(_responses, body)
        return RerankResponse(
            model=answer.model or request.model or "",
            results=tuple(_parsed(result) for result in answer.results),
            usage=counted(answer.usage),
        )

    def render_error(self, error: RerankError, request_id: str) -> tuple[int, bytes]:
        return vllm_shapes.render_error(error)

    def parse_error(self, status: int, headers: Mapping[str, str], body: bytes) -> RerankError:
        return openai_shapes.parse_error(status, headers, body)

    def schemas(self) -> tuple[Any, Any]:
        return VllmRequest, VllmResponse


def _rendered(result: Result) -> VllmResult:
    return VllmResult(
        index=result.index,
        document=UNSET if result.document is None else VllmDocument(result.document.text),
        relevance_score=result.relevance_score,
    )


def _parsed(result: AnswerResult) -> Result:
    found = result.document
    text = found.text if isinstance(found, AnswerDocument) else found
    return Result(result.index, result.relevance_score, document_of(text))
