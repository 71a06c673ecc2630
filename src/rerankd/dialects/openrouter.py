"""OpenRouter's API, which is only called: POST /v1/rerank under https://openrouter.ai/api; documents always come back.

Its usage holds search units, and what the call cost in credits, which has no place here.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from rerankd.dialects.base import Codec
from rerankd.dialects.decoding import decode_answer
from rerankd.dialects.error_bodies import message_in
from rerankd.dialects.results import AnswerResult, Count, results_of, usage_of
from rerankd.dialects.statuses import error_of
from rerankd.errors import RerankError
from rerankd.types import RerankRequest, RerankResponse


class OpenRouterRequest(msgspec.Struct, omit_defaults=True):
    model: str | None = None
    query: str | None = None
    documents: list[str] | None = None
    top_n: int | None = None


class OpenRouterUsage(msgspec.Struct):
    total_tokens: Count | None = None
    search_units: Count | None = None


class OpenRouterAnswer(msgspec.Struct):
    results: list[AnswerResult]
    model: str | None = None
    usage: OpenRouterUsage | None = None


_answers = msgspec.json.Decoder(OpenRouterAnswer)


class OpenRouter(Codec):
    name = "openrouter"
    title = "OpenRouter"
    paths = ("/v1/rerank",)
    request_losses: Mapping[str, object] = {
        "documents.fields": None,
        "return_documents": True,
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
    response_losses = frozenset({"usage.cached_tokens", "usage.estimated", "results.embedding", "warnings"})

    def render_request(self, request: RerankRequest) -> bytes:
        return msgspec.json.encode(
            OpenRouterRequest(
                model=request.model,
                query=request.query,
                documents=[document.text for document in request.documents],
                top_n=request.top_n,
            )
        )

    def parse_response(self, body: bytes, headers: Mapping[str, str], request: RerankRequest) -> RerankResponse:
        answer = decode_answer(_answers, body)
        usage = answer.usage or OpenRouterUsage()
        return RerankResponse(
            model=answer.model or request.model or "",
            results=results_of(answer.results),
            usage=usage_of(usage.total_tokens, search_units=usage.search_units),
        )

    def parse_error(self, status: int, headers: Mapping[str, str], body: bytes) -> RerankError:
        return error_of(status, headers, message_in(body))
