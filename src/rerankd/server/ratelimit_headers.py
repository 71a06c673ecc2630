"""The headers that say what is left of a key's limits, as OpenAI writes them, and of documents alike."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from math import ceil

from rerankd.accounts import Allowance


def ratelimit_headers(allowances: Mapping[str, Allowance]) -> list[tuple[bytes, bytes]]:
    """For each limit that the key has: what it is, how much is left, and after how many seconds all of it is there again."""
    headers: list[tuple[bytes, bytes]] = []
    for name, allowance in allowances.items():
        limit, remaining, reset = _names(name)
        headers += (
            (limit, b"%d" % allowance.limit),
            (remaining, b"%d" % allowance.remaining),
            (reset, b"%ds" % ceil(allowance.reset)),
        )
    return headers


@cache
def _names(limit: str) -> tuple[bytes, bytes, bytes]:
    """As bytes and once: there are nine of them in an answer."""
    return tuple(f"x-ratelimit-{what}-{limit}".encode() for what in ("limit", "remaining", "reset"))  # type: ignore[return-value]
