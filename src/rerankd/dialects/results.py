"""The results that most formats write, `{"index", "relevance_score", "document": {"text"}}`, and how all of them are read.

Reading is wider than writing: servers of one format differ in whether a document is a string, an object, null or absent.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
from msgspec import UNSET, UnsetType

from rerankd import estimate
from rerankd.types import Document, RerankRequest, RerankResponse, Result, Usage

Count = int | float
"""A number of things in an upstream's answer: some servers write 12.0."""


class ObjectResult(msgspec.Struct, gc=False):
    """A result whose document is an object, there only where it was asked for."""

    index: int
    relevance_score: float
    document: dict[str, Any] | UnsetType = UNSET


class StringResult(msgspec.Struct, gc=False):
    """A result whose document is a string, there only where it was asked for."""

    index: int
    relevance_score: float
    document: str | UnsetType = UNSET


class AnswerResult(msgspec.Struct, gc=False):
    """A result as upstreams write it."""

    index: int
    relevance_score: float
    document: str | dict[str, Any] | None = None


def object_results(response: RerankResponse) -> list[ObjectResult]:
    return [
        ObjectResult(
            result.index,
            result.relevance_score,
            UNSET if result.document is None else object_of(result.document),
        )
        for result in response.results
    ]


def string_results(response: RerankResponse) -> list[StringResult]:
    return [
        StringResult(result.index, result.relevance_score, UNSET if result.document is None else result.document.text)
        for result in response.results
    ]


def results_of(answers: Sequence[AnswerResult]) -> tuple[Result, ...]:
    return tuple([Result(one.index, one.relevance_score, document_of(one.document)) for one in answers])


def object_of(document: Document) -> dict[str, Any]:
    """The object that the client sent, with the text that was ranked where it had none."""
    return {"text": document.text} if document.fields is None else {"text": document.text, **document.fields}


def document_of(found: str | dict[str, Any] | None) -> Document | None:
    """An upstream's document; its own copy is never passed on, so that one without a text is as good as none."""
    if found is None or isinstance(found, str):
        return None if found is None else Document(found)
    text = found.get("text")
    return Document(text, found if len(found) > 1 else None) if isinstance(text, str) else None


def search_units(response: RerankResponse, request: RerankRequest) -> int:
    """Cohere's unit of price, as the ledger has it too."""
    return estimate.search_units(response.usage, len(request.documents))


def usage_of(
    prompt_tokens: Count | None,
    total_tokens: Count | None = None,
    *,
    cached_tokens: Count | None = None,
    search_units: Count | None = None,
) -> Usage:
    """Tokens as an upstream counted them, the total where the prompt's are 0 or absent; `estimated` where nobody did."""
    counted = prompt_tokens is not None or total_tokens is not None
    return Usage(
        prompt_tokens=int(prompt_tokens or total_tokens or 0),
        cached_tokens=int(cached_tokens or 0),
        estimated=not counted,
        search_units=None if search_units is None else int(search_units),
    )
