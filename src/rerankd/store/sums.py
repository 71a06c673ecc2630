"""The columns of `usage`: what is added up, and under what. The adding is the database's own doing, by the trigger that
`migrations` puts on `ledger`, so that there is no way to add a row without its sums.
"""

from __future__ import annotations

from datetime import UTC, datetime
from functools import lru_cache
from typing import NamedTuple

DAY_MS = 86_400_000


class SumKey(NamedTuple):
    """The first columns of `usage`: what is added up under them is one row."""

    day: str
    key_id: str
    model: str
    channel: str


class Sums(NamedTuple):
    """The other columns of `usage`, in their order."""

    requests: int = 0
    failed: int = 0
    documents: int = 0
    tokens: int = 0
    cached_tokens: int = 0
    estimated_tokens: int = 0
    search_units: int = 0
    cost: int = 0


def day_of(at: int) -> str:
    """Such as 2026-11-21, of UTC, for milliseconds since 1970."""
    return _named(at // DAY_MS)


@lru_cache(maxsize=64)
def _named(day: int) -> str:
    return datetime.fromtimestamp(day * DAY_MS // 1000, UTC).date().isoformat()
