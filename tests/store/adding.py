"""What rows of the ledger come to, added up here: what the database does by its trigger has to be the same.

A correction (`adjust`) is no request: it changes documents, tokens, searches and cost, and counts nowhere else.
"""

from __future__ import annotations

from collections.abc import Iterable

from rerankd.accounts import Entry
from rerankd.store.sums import SumKey, Sums, day_of

ANSWERED = 200
NOTHING = Sums()


def sums_of(entries: Iterable[Entry]) -> dict[SumKey, Sums]:
    """What these rows add to `usage`, each of which is there once and was not there before."""
    sums: dict[SumKey, Sums] = {}
    for entry in entries:
        key = SumKey(day_of(entry.at), entry.key_id, entry.model, entry.channel)
        is_request = entry.kind == "request"
        had = sums.get(key, NOTHING)
        sums[key] = Sums(
            had.requests + is_request,
            had.failed + (is_request and entry.status != ANSWERED),
            had.documents + entry.documents,
            had.tokens + entry.tokens,
            had.cached_tokens + entry.cached_tokens,
            had.estimated_tokens + (entry.tokens if entry.estimated else 0),
            had.search_units + entry.search_units,
            had.cost + entry.cost,
        )
    return sums
