"""What Cohere's v1 and v2 have in common: the answer, its `meta` with the search units that are paid for, and the error.

docs.cohere.com/reference/rerank. `meta.tokens` is optional there; we fill it, so that whoever reads it counts right.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec
from msgspec import UNSET, UnsetType

from rerankd.dialects.decoding import decode_answer
from rerankd.dialects.error_bodies import message_in
from rerankd.dialects.results import (
    AnswerResult,
    Count,
    ObjectResult,
    object_results,
    results_of,
    search_units,
    usage_of,
)
from rerankd.dialects.statuses import error_of
from rerankd.errors import RerankError, UnknownField
from rerankd.types import Call, RerankRequest, RerankResponse, Usage

RESPONSE_LOSSES = frozenset({"model", "usage.cached_tokens", "usage.estimated", "results.embedding"})


class ApiVersion(msgspec.Struct):
    version: str = "1"


class BilledUnits(msgspec.Struct):
    search_units: int = 0


class Tokens(msgspec.Struct):
    input_tokens: int = 0
    output_tokens: int = 0


class Meta(msgspec.Struct):
    """A search unit is a query with up to 100 documents; a document counts for each 500 tokens of it and the query."""

    api_version: ApiVersion = msgspec.field(default_factory=ApiVersion)
    billed_units: BilledUnits = msgspec.field(default_factory=BilledUnits)
    tokens: Tokens = msgspec.field(default_factory=Tokens)
    warnings: list[str] | UnsetType = UNSET


class CohereResponse(msgspec.Struct):
    """Documents in order of relevance, best first."""

    id: str
    results: list[ObjectResult]
    meta: Meta


class CohereError(msgspec.Struct):
    message: str
    id: str = ""


class AnswerUnits(msgspec.Struct):
    search_units: Count | None = None
    input_tokens: Count | None = None


class AnswerTokens(msgspec.Struct):
    input_tokens: Count | None = None


class AnswerMeta(msgspec.Struct):
    billed_units: AnswerUnits | None = None
    tokens: AnswerTokens | None = None
    warnings: list[str] | None = None

    @property
    def usage(self) -> Usage:
        tokens = self.tokens.input_tokens if self.tokens else None
        billed = self.billed_units or AnswerUnits()
        return usage_of(tokens, billed.input_tokens, search_units=billed.search_units)


class CohereAnswer(msgspec.Struct):
    results: list[AnswerResult]
    meta: AnswerMeta | None = None


_answers = msgspec.json.Decoder(CohereAnswer)


def meta_of(response: RerankResponse, request: RerankRequest, version: str) -> Meta:
    return Meta(
        ApiVersion(version),
        BilledUnits(search_units(response, request)),
        Tokens(response.usage.total_tokens),
        list(response.warnings) or UNSET,
    )


def render_response(response: RerankResponse, request: RerankRequest, call: Call, version: str) -> bytes:
    meta = meta_of(response, request, version)
    return msgspec.json.encode(CohereResponse(call.request_id, object_results(response), meta))


def parse_response(body: bytes, request: RerankRequest) -> RerankResponse:
    answer = decode_answer(_answers, body)
    meta = answer.meta or AnswerMeta()
    return RerankResponse(
        model=request.model or "",
        results=results_of(answer.results),
        usage=meta.usage,
        warnings=tuple(meta.warnings or ()),
    )


def render_error(error: RerankError, request_id: str) -> tuple[int, bytes]:
    """An unknown field is named as Cohere names it; its SDK has an exception for each of these statuses."""
    message = error.message
    if isinstance(error, UnknownField):
        message = f"unknown field: parameter '{error.param}' is not a valid field"
    return error.status, msgspec.json.encode(CohereError(message, request_id))


def parse_error(status: int, headers: Mapping[str, str], body: bytes) -> RerankError:
    return error_of(status, headers, message_in(body))
