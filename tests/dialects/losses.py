"""What is left of a request or an answer after a wire format has lost what it declares to lose."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import msgspec

from rerankd.types import Document, RerankRequest, RerankResponse, Result

BLANKS: Mapping[str, Any] = {
    "model": "",
    "warnings": (),
    "results.document": None,
    "results.embedding": None,
    "documents.fields": None,
    "usage.prompt_tokens": 0,
    "usage.cached_tokens": 0,
    "usage.estimated": False,
    "usage.search_units": None,
}
"""What an answer holds in the place of something that was lost. `results.order` stands for the order of the results."""


def request_without(losses: Mapping[str, object], request: RerankRequest) -> RerankRequest:
    changes = dict(losses)
    if "documents.fields" in changes:
        del changes["documents.fields"]
        changes["documents"] = tuple(Document(document.text) for document in request.documents)
    return msgspec.structs.replace(request, **changes)


def response_without(losses: Collection[str], response: RerankResponse) -> RerankResponse:
    unknown = set(losses) - set(BLANKS) - {"results.order"}
    assert not unknown, f"no such part of an answer: {unknown}"
    usage = {name.partition(".")[2]: BLANKS[name] for name in losses if name.startswith("usage.")}
    if "usage.prompt_tokens" in losses:
        usage["estimated"] = True  # what nobody counted
    results = tuple(_result(losses, result) for result in response.results)
    if "results.order" in losses:
        results = tuple(sorted(results, key=lambda result: result.index))
    return msgspec.structs.replace(
        response,
        results=results,
        usage=msgspec.structs.replace(response.usage, **usage),
        **{name: BLANKS[name] for name in ("model", "warnings") if name in losses},
    )


def _result(losses: Collection[str], result: Result) -> Result:
    document = result.document
    if document is not None and "documents.fields" in losses:
        document = Document(document.text)
    return Result(
        result.index,
        result.relevance_score,
        None if "results.document" in losses else document,
        None if "results.embedding" in losses else result.embedding,
    )
