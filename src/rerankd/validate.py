"""The one check of results: what passes it is complete, finite, in order, and carries the caller's own documents.

It is the only place that sorts, cuts to `top_n` and attaches documents; whoever scores may answer in any order.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import isfinite

import msgspec

from rerankd.errors import UpstreamMalformed
from rerankd.types import RerankRequest, Result


def validate(results: Sequence[Result], request: RerankRequest, keep: int | None = None) -> tuple[Result, ...]:
    """Results sorted by (-score, index), at most `top_n`, with documents from the request alone.

    `keep` is for who is known to answer with so many results at most (a cascade), whatever is asked for. Raises
    `UpstreamMalformed` when an index is no integer, out of range or double, when a score is not finite, or when there are
    fewer results than `top_n`, `keep` and the documents demand.
    """
    total = len(request.documents)
    wanted = min(request.top_n or total, keep or total, total)
    seen: set[int] = set()
    for result in results:
        _check(result, total, seen)
    if len(results) < wanted:
        raise UpstreamMalformed(f"The answer holds {len(results)} results where {wanted} were asked for.")
    ordered = sorted(results, key=lambda result: (-result.relevance_score, result.index))[:wanted]
    if not request.return_documents:
        return tuple(result if result.document is None else _without_document(result) for result in ordered)
    return tuple(msgspec.structs.replace(result, document=request.documents[result.index]) for result in ordered)


def _without_document(result: Result) -> Result:
    return msgspec.structs.replace(result, document=None)


def _check(result: Result, total: int, seen: set[int]) -> None:
    index, score = result.index, result.relevance_score
    if type(index) is not int or not 0 <= index < total:
        raise UpstreamMalformed(f"The answer names document {index!r} of {total}.")
    if index in seen:
        raise UpstreamMalformed(f"The answer names document {index} twice.")
    if isinstance(score, bool) or not isinstance(score, int | float) or not isfinite(score):
        raise UpstreamMalformed(f"The score of document {index} is not a finite number.")
    seen.add(index)
