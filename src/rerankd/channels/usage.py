"""What a call cost: as the upstream counted it, where that can be true, else by our own estimate, which says so."""

from __future__ import annotations

import msgspec

from rerankd.estimate import LIGHTEST, estimated_request
from rerankd.types import RerankRequest, Usage

ABSURD_TIMES, ABSURD_MORE = 50, 1000
"""A count beyond so many times our estimate, and so much more, is none."""
MOST_SEARCH_UNITS = 10**6


def believed(usage: Usage, request: RerankRequest) -> Usage:
    """`usage` where it can be true. No tokens at all cannot: a text that was ranked has some."""
    units = usage.search_units
    if units is not None and not 0 <= units <= MOST_SEARCH_UNITS:
        units = None
    if usage.estimated or not _can_be(usage.prompt_tokens, request):
        return Usage(prompt_tokens=estimated_request(request), estimated=True, search_units=units)
    cached = min(max(usage.cached_tokens, 0), usage.prompt_tokens)
    return msgspec.structs.replace(usage, cached_tokens=cached, search_units=units)


def _can_be(tokens: int, request: RerankRequest) -> bool:
    """Most counts are so far from absurd that they show it themselves, or the number of characters does, unweighed."""
    if tokens <= ABSURD_MORE:
        return tokens > 0
    if request.max_tokens_per_doc is None:
        characters = len(request.query) * len(request.documents) + sum(len(each.text) for each in request.documents)
        if tokens <= ABSURD_TIMES * LIGHTEST * characters + ABSURD_MORE:
            return True
    return tokens <= ABSURD_TIMES * estimated_request(request) + ABSURD_MORE
