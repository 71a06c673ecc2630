"""POST /v1/rerank: Jina's request, and one answer that Jina, New API and Cohere v1 clients all accept.

It is the standard form into which New API puts every provider: `document` is `{"text": ...}` and comes back unless the
client says no, `usage` is the long one, `meta` is Cohere's. What is absent is left out, never null: strict readers fail
on a null `document` or `usage` (measured with litellm 1.106.2).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import msgspec

from rerankd.dialects import root_error, root_request
from rerankd.dialects.base import Codec
from rerankd.dialects.cohere_shapes import AnswerMeta, Meta, meta_of
from rerankd.dialects.decoding import decode, decode_answer, reader
from rerankd.dialects.fields import EXPECTED
from rerankd.dialects.jina_shapes import (
    AnswerUsage,
    JinaAnswerResult,
    JinaResult,
    LongUsage,
    counted,
    jina_results,
    long_usage,
    results_of,
)
from rerankd.errors import RerankError
from rerankd.types import Call, RerankRequest, RerankResponse


class SupersetRequest(root_request.RootRequest):
    """What to rank. `top_n` 0, null or absent means all documents; `return_documents` is true unless said otherwise."""


class SupersetAnswer(msgspec.Struct):
    """What servers of this kind answer: any part but the results may be absent or null."""

    results: list[JinaAnswerResult]
    model: str | None = None
    usage: AnswerUsage | None = None
    meta: AnswerMeta | None = None


class SupersetResponse(msgspec.Struct):
    """Documents in order of relevance, best first."""

    model: str
    results: list[JinaResult]
    usage: LongUsage
    id: str = ""
    object: Literal["rerank"] = "rerank"
    created: int = 0
    meta: Meta = msgspec.field(default_factory=Meta)


_requests = reader(SupersetRequest)
_responses = msgspec.json.Decoder(SupersetAnswer)


class Superset(Codec):
    name = "superset"
    title = "Jina, New API and Cohere v1 in one"
    paths = ("/v1/rerank",)
    prefix = ""
    default_model = "jina-reranker-v2-base-multilingual"
    request_losses = root_request.LOSSES
    response_losses = frozenset({"usage.estimated"})

    def parse_request(self, body: bytes) -> RerankRequest:
        return root_request.parse(decode(_requests, body, EXPECTED), return_documents=True)

    def render_request(self, request: RerankRequest) -> bytes:
        return root_request.render(SupersetRequest, request, return_documents=request.return_documents)

    def render_response(self, response: RerankResponse, request: RerankRequest, call: Call) -> bytes:
        answer = SupersetResponse(
            id=call.request_id,
            created=call.created,
            model=request.model or response.model,
            results=jina_results(response),
            usage=long_usage(response.usage),
            meta=meta_of(response, request, "1"),
        )
        return msgspec.json.encode(answer)

    def parse_response(self, body: bytes, headers: Mapping[str, str], request: RerankRequest) -> RerankResponse:
        answer = decode_answer(_responses, body)
        return RerankResponse(
            model=answer.model or request.model or "",
            results=results_of(answer.results),
            usage=counted(answer.usage, answer.meta.usage if answer.meta else None),
            warnings=tuple(answer.meta.warnings or ()) if answer.meta else (),
        )

    def render_error(self, error: RerankError, request_id: str) -> tuple[int, bytes]:
        return root_error.render(error)

    def parse_error(self, status: int, headers: Mapping[str, str], body: bytes) -> RerankError:
        return root_error.parse(status, headers, body)

    def schemas(self) -> tuple[type[Any], type[Any]]:
        return SupersetRequest, SupersetResponse
