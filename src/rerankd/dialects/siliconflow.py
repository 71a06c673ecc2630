"""SiliconFlow's API: POST /v1/rerank; Jina's request with windows and an instruction, and an answer that is nearly Cohere's.

Its counts are tokens, in `meta` twice over; servers outside of China have them beside the results as well. An error is
`{"code", "message", "data"}` with `data` null, without a code for 429, and for 401 nothing but a string.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import msgspec
from msgspec import UNSET, Meta, UnsetType

from rerankd.dialects.base import Codec
from rerankd.dialects.cohere_shapes import AnswerMeta, AnswerTokens, Tokens
from rerankd.dialects.decoding import decode, decode_answer, reader
from rerankd.dialects.error_bodies import message_in
from rerankd.dialects.fields import EXPECTED, Chunks, Overlap, TextField, documents_of, query_of, top_n_of
from rerankd.dialects.results import AnswerResult, ObjectResult, object_results, results_of, usage_of
from rerankd.dialects.statuses import error_of
from rerankd.errors import RerankError
from rerankd.types import Call, RerankRequest, RerankResponse, Usage

NO_SUCH_MODEL = 20012
WRONG_PARAMETER = 20015
OVERLOADED = 50505
FAILED = 50507


class SiliconFlowRequest(msgspec.Struct, omit_defaults=True):
    model: str | None = None
    query: TextField | None = None
    documents: list[TextField] | None = None
    instruction: Annotated[str | None, Meta(description="What the ranking follows, where the model can.")] = None
    top_n: int | None = None
    return_documents: bool | None = None
    max_chunks_per_doc: Annotated[
        Chunks | None, Meta(description="Score a long document in at most so many windows; the best counts.")
    ] = None
    overlap_tokens: Annotated[Overlap | None, Meta(description="Tokens that neighbouring windows share.")] = None


class TokenUnits(msgspec.Struct):
    input_tokens: int = 0
    output_tokens: int = 0
    search_units: int = 0
    classifications: int = 0


class SiliconFlowMeta(msgspec.Struct):
    billed_units: TokenUnits
    tokens: Tokens


class SiliconFlowResponse(msgspec.Struct):
    """Documents in order of relevance, best first."""

    id: str
    results: list[ObjectResult]
    meta: SiliconFlowMeta


class SiliconFlowAnswer(msgspec.Struct):
    results: list[AnswerResult]
    meta: AnswerMeta | None = None
    tokens: AnswerTokens | None = None

    @property
    def usage(self) -> Usage:
        """Search units are always there, and 0."""
        found = self.meta.usage if self.meta else usage_of(None)
        units = found.search_units or None
        if found.estimated and self.tokens:
            return usage_of(self.tokens.input_tokens, search_units=units)
        return msgspec.structs.replace(found, search_units=units)


class SiliconFlowError(msgspec.Struct):
    message: str
    code: int | UnsetType = UNSET
    data: None = None


_requests = reader(SiliconFlowRequest)
_answers = msgspec.json.Decoder(SiliconFlowAnswer)


class SiliconFlow(Codec):
    name = "siliconflow"
    title = "SiliconFlow"
    paths = ("/v1/rerank",)
    request_losses: Mapping[str, object] = {
        "documents.fields": None,
        "return_embeddings": False,
        "max_tokens_per_doc": None,
        "truncation": True,
        "raw_scores": None,
        "priority": "interactive",
        "unread": (),
    }
    response_losses = frozenset({"model", "usage.cached_tokens", "usage.estimated", "results.embedding", "warnings"})

    def parse_request(self, body: bytes) -> RerankRequest:
        fields = decode(_requests, body, EXPECTED)
        return RerankRequest(
            query=query_of(fields.query),
            documents=documents_of(fields.documents),
            model=fields.model,
            top_n=top_n_of(fields.top_n),
            return_documents=bool(fields.return_documents),
            instruction=fields.instruction or None,
            max_chunks_per_doc=fields.max_chunks_per_doc or None,
            overlap_tokens=fields.overlap_tokens,
        )

    def render_request(self, request: RerankRequest) -> bytes:
        return msgspec.json.encode(
            SiliconFlowRequest(
                model=request.model,
                query=request.query,
                documents=[document.text for document in request.documents],
                instruction=request.instruction,
                top_n=request.top_n,
                return_documents=request.return_documents or None,
                max_chunks_per_doc=request.max_chunks_per_doc,
                overlap_tokens=request.overlap_tokens,
            )
        )

    def render_response(self, response: RerankResponse, request: RerankRequest, call: Call) -> bytes:
        tokens = response.usage.total_tokens
        meta = SiliconFlowMeta(TokenUnits(tokens, search_units=response.usage.search_units or 0), Tokens(tokens))
        return msgspec.json.encode(SiliconFlowResponse(call.request_id, object_results(response), meta))

    def response_headers(self, response: RerankResponse, request: RerankRequest, call: Call) -> Mapping[str, str]:
        return {"x-siliconcloud-trace-id": call.request_id}

    def parse_response(self, body: bytes, headers: Mapping[str, str], request: RerankRequest) -> RerankResponse:
        answer = decode_answer(_answers, body)
        return RerankResponse(model=request.model or "", results=results_of(answer.results), usage=answer.usage)

    def render_error(self, error: RerankError, request_id: str) -> tuple[int, bytes]:
        if error.status == 401:
            return error.status, msgspec.json.encode(error.message)
        return error.status, msgspec.json.encode(SiliconFlowError(error.message, _code(error.status)))

    def parse_error(self, status: int, headers: Mapping[str, str], body: bytes) -> RerankError:
        return error_of(status, headers, message_in(body))

    def schemas(self) -> tuple[Any, Any]:
        return SiliconFlowRequest, SiliconFlowResponse


def _code(status: int) -> int | UnsetType:
    known: Mapping[int, int | UnsetType] = {404: NO_SUCH_MODEL, 429: UNSET, 503: OVERLOADED}
    return known.get(status, WRONG_PARAMETER if status < 500 else FAILED)
