"""POST /rerank: the small local format of jina-reranker-v3's FastAPI server.

A result's `document` is a string, there only where it was asked for; `embedding` is always there, null where there is none.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
from msgspec import UNSET, UnsetType

from rerankd.dialects import root_error, root_request
from rerankd.dialects.base import Codec
from rerankd.dialects.decoding import decode, decode_answer, reader
from rerankd.dialects.fields import EXPECTED
from rerankd.dialects.results import Count, document_of, usage_of
from rerankd.errors import RerankError
from rerankd.types import Call, RerankRequest, RerankResponse, Result


class LocalRequest(root_request.RootRequest):
    """What to rank. `top_n` 0, null or absent means all documents."""


class LocalResult(msgspec.Struct):
    index: int
    relevance_score: float
    document: str | UnsetType = UNSET
    embedding: list[float] | None = None


class LocalUsage(msgspec.Struct):
    total_tokens: int = 0


class LocalResponse(msgspec.Struct):
    """Documents in order of relevance, best first."""

    model: str
    usage: LocalUsage
    results: list[LocalResult]


class AnswerUsage(msgspec.Struct):
    total_tokens: Count | None = None


class LocalAnswer(msgspec.Struct):
    """What servers of this kind answer; any part but the results may be absent."""

    results: list[LocalResult]
    model: str | None = None
    usage: AnswerUsage | None = None


_requests = reader(LocalRequest)
_answers = msgspec.json.Decoder(LocalAnswer)


class Local(Codec):
    name = "local"
    title = "jina-reranker-v3's own server"
    paths = ("/rerank",)
    prefix = ""
    default_model = "jina-reranker-v3"
    request_losses = root_request.LOSSES
    response_losses = frozenset(
        {"documents.fields", "usage.cached_tokens", "usage.estimated", "usage.search_units", "warnings"}
    )

    def parse_request(self, body: bytes) -> RerankRequest:
        return root_request.parse(decode(_requests, body, EXPECTED), return_documents=False)

    def render_request(self, request: RerankRequest) -> bytes:
        return root_request.render(LocalRequest, request, return_documents=request.return_documents or None)

    def render_response(self, response: RerankResponse, request: RerankRequest, call: Call) -> bytes:
        usage = LocalUsage(response.usage.total_tokens)
        results = [_rendered(result) for result in response.results]
        return msgspec.json.encode(LocalResponse(request.model or response.model, usage, results))

    def parse_response(self, body: bytes, headers: Mapping[str, str], request: RerankRequest) -> RerankResponse:
        answer = decode_answer(_answers, body)
        return RerankResponse(
            model=answer.model or request.model or "",
            results=tuple(_parsed(result) for result in answer.results),
            usage=usage_of(answer.usage.total_tokens if answer.usage else None),
        )

    def render_error(self, error: RerankError, request_id: str) -> tuple[int, bytes]:
        return root_error.render(error)

    def parse_error(self, status: int, headers: Mapping[str, str], body: bytes) -> RerankError:
        return root_error.parse(status, headers, body)

    def schemas(self) -> tuple[type[Any], type[Any]]:
        return LocalRequest, LocalResponse


def _rendered(result: Result) -> LocalResult:
    text = UNSET if result.document is None else result.document.text
    return LocalResult(
        result.index, result.relevance_score, text, None if result.embedding is None else list(result.embedding)
    )


def _parsed(result: LocalResult) -> Result:
    document = None if result.document is UNSET else result.document
    embedding = None if result.embedding is None else tuple(result.embedding)
    return Result(result.index, result.relevance_score, document_of(document), embedding)
