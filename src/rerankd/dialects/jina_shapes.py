"""What Jina's format, New API's standard form and our own root path have in common: results and the long usage.

A result's document is an object, and its embedding stands beside it. New API and DMXAPI document a usage with details of
prompt and completion; Jina's clients read its `total_tokens`, so that one usage serves them all.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
from msgspec import UNSET, UnsetType

from rerankd.dialects.results import AnswerResult, Count, ObjectResult, document_of, object_of, usage_of
from rerankd.types import RerankResponse, Result, Usage


class JinaResult(ObjectResult, gc=False):
    """Document and embedding are there only where they were asked for."""

    embedding: list[float] | UnsetType = UNSET


class PromptTokensDetails(msgspec.Struct):
    cached_tokens: int = 0
    audio_tokens: int = 0
    cached_tokens_details: dict[str, int] = {}


class CompletionTokensDetails(msgspec.Struct):
    reasoning_tokens: int = 0
    audio_tokens: int = 0
    accepted_prediction_tokens: int = 0
    rejected_prediction_tokens: int = 0


class LongUsage(msgspec.Struct):
    """Tokens fed to the model, counted with its own tokenizer."""

    prompt_tokens: int = 0
    completion_tokens: int = 0
    total_tokens: int = 0
    prompt_tokens_details: PromptTokensDetails = msgspec.field(default_factory=PromptTokensDetails)
    completion_tokens_details: CompletionTokensDetails = msgspec.field(default_factory=CompletionTokensDetails)


class JinaAnswerResult(AnswerResult, gc=False):
    embedding: list[float] | None = None


class AnswerDetails(msgspec.Struct):
    cached_tokens: Count | None = None


class AnswerUsage(msgspec.Struct):
    """Any part may be absent or null."""

    prompt_tokens: Count | None = None
    total_tokens: Count | None = None
    prompt_tokens_details: AnswerDetails | None = None


def jina_results(response: RerankResponse) -> list[JinaResult]:
    return [
        JinaResult(
            result.index,
            result.relevance_score,
            UNSET if result.document is None else object_of(result.document),
            UNSET if result.embedding is None else list(result.embedding),
        )
        for result in response.results
    ]


def results_of(answers: Sequence[JinaAnswerResult]) -> tuple[Result, ...]:
    return tuple(
        [
            Result(
                one.index,
                one.relevance_score,
                None if one.document is None else document_of(one.document),
                None if one.embedding is None else tuple(one.embedding),
            )
            for one in answers
        ]
    )


def long_usage(usage: Usage) -> LongUsage:
    return LongUsage(
        prompt_tokens=usage.prompt_tokens,
        total_tokens=usage.total_tokens,
        prompt_tokens_details=PromptTokensDetails(cached_tokens=usage.cached_tokens),
    )


def counted(found: AnswerUsage | None, billed: Usage | None = None) -> Usage:
    """Tokens from the `usage` that was found, or as they are `billed` elsewhere in the answer where it has none."""
    usage = found or AnswerUsage()
    details = usage.prompt_tokens_details or AnswerDetails()
    elsewhere = None if billed is None or billed.estimated else billed.prompt_tokens
    return usage_of(
        usage.prompt_tokens,
        usage.total_tokens or elsewhere,
        cached_tokens=details.cached_tokens or 0,
        search_units=billed.search_units if billed else None,
    )
