"""What self-hosted servers took over from OpenAI: `usage` with two counts, and the error in an object.

In their errors `code` is the HTTP status as a number. Reading is wider than writing: older versions of vLLM have the
error's parts at the top, and some layers say a string in its place.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from rerankd.dialects.error_bodies import message_in
from rerankd.dialects.results import Count, usage_of
from rerankd.dialects.statuses import error_of, read
from rerankd.errors import RerankError
from rerankd.types import Usage

RESPONSE_LOSSES = frozenset(
    {"warnings", "results.embedding", "usage.cached_tokens", "usage.estimated", "usage.search_units"}
)


class TokenUsage(msgspec.Struct):
    """Tokens fed to the model; a reranker writes none."""

    prompt_tokens: int = 0
    total_tokens: int = 0


class ErrorDetail(msgspec.Struct):
    message: str
    type: str
    param: str | None
    code: int


class ErrorBody(msgspec.Struct):
    error: ErrorDetail


class AnswerUsage(msgspec.Struct):
    prompt_tokens: Count | None = None
    total_tokens: Count | None = None


class AnswerDetail(msgspec.Struct):
    message: str
    param: str | None = None


class AnswerError(msgspec.Struct):
    error: AnswerDetail


_errors = msgspec.json.Decoder(AnswerError)


def token_usage(usage: Usage) -> TokenUsage:
    return TokenUsage(usage.prompt_tokens, usage.total_tokens)


def counted(usage: AnswerUsage | None) -> Usage:
    return usage_of(usage.prompt_tokens, usage.total_tokens) if usage else usage_of(None)


def detail_of(error: RerankError, kind: str) -> ErrorDetail:
    return ErrorDetail(error.message, kind, error.param, error.status)


def parse_error(status: int, headers: Mapping[str, str], body: bytes) -> RerankError:
    found = read(_errors, body)
    if found is None:
        return error_of(status, headers, message_in(body))
    return error_of(status, headers, found.error.message, param=found.error.param)
