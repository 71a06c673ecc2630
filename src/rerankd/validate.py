"""The one check of results: what passes it is complete, finite, in order, and carries the caller's own documents.

It is the only place that sorts, cuts to `top_n` and attaches documents; whoever scores may answer in any order.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import isfinite
from operator import attrgetter

import msgspec

from rerankd.errors import UpstreamMalformed
from rerankd.types import RerankRequest, Result

NUMBERS = (int, float)
INDEX, SCORE = attrgetter("index"), attrgetter("relevance_score")


def validate(results: Sequence[Result], request: RerankRequest, keep: int | None = None) -> tuple[Result, ...]:
    """Results sorted by (-score, index), at most `top_n`, with documents from the request alone.

    `keep` is for who is known to answer with so many results at most (a cascade), whatever is asked for. Raises
    `UpstreamMalformed` when an index is no integer, out of range or double, when a score is not finite, or when there are
    fewer results than `top_n`, `keep` and the documents demand.
    """
    documents = request.documents
    total = len(documents)
    wanted = min(request.top_n or total, keep or total, total)
    _check(results, total)
    if len(results) < wanted:
        raise UpstreamMalformed(f"The answer holds {len(results)} results where {wanted} were asked for.")
    ordered = sorted(sorted(results, key=INDEX), key=SCORE, reverse=True)[:wanted]  # reversing keeps equals in order
    if request.return_documents:
        return tuple([msgspec.structs.replace(each, document=documents[each.index]) for each in ordered])
    return tuple([each if each.document is None else msgspec.structs.replace(each, document=None) for each in ordered])


def _check(results: Sequence[Result], total: int) -> None:
    seen: set[int] = set()
    for result in results:
        index, score = result.index, result.relevance_score
        if type(index) is not int or not 0 <= index < total:
            raise UpstreamMalformed(f"The answer names document {index!r} of {total}.")
        if index in seen:
            raise UpstreamMalformed(f"The answer names document {index} twice.")
        if type(score) is bool or not isinstance(score, NUMBERS) or not isfinite(score):
            raise UpstreamMalformed(f"The score of document {index} is not a finite number.")
        seen.add(index)
