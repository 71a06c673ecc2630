"""Who asks, what they may, and what is written down of each request: the vocabulary of keys, limits and the ledger.

Numbers are integers throughout: tokens, documents, microseconds, and money in millionths of the currency's unit.
"""

from __future__ import annotations

from typing import Literal

import msgspec

Scope = Literal["rank", "admin"]
Period = Literal["total", "month", "day"]


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """The most that a key may use in any 60 seconds, and of requests at one time; None is no limit."""

    requests: int | None = None
    tokens: int | None = None
    documents: int | None = None
    concurrency: int | None = None


class Quotas(msgspec.Struct, frozen=True, kw_only=True):
    """The most tokens in all, in a month and in a day (both of UTC); None is no quota."""

    total: int | None = None
    month: int | None = None
    day: int | None = None


NO_LIMITS, NO_QUOTAS = Limits(), Quotas()


class Caller(msgspec.Struct, frozen=True, kw_only=True):
    """Whose request it is, and what that one may. Without `models`, every model may be used.

    `namespace` is whose cache it uses, the empty one being everybody's; `strict` refuses unknown fields.
    """

    id: str
    name: str
    models: tuple[str, ...] = ()
    limits: Limits = NO_LIMITS
    quotas: Quotas = NO_QUOTAS
    namespace: str = ""
    strict: bool = False

    @property
    def limited(self) -> bool:
        return self.limits != NO_LIMITS or self.quotas != NO_QUOTAS


class Allowance(msgspec.Struct, frozen=True):
    """Of one limit: how much of it is left, and in how many seconds all of it will be there again."""

    limit: int
    remaining: int
    reset: float


class Spent(msgspec.Struct, frozen=True, kw_only=True):
    """Tokens that the ledger has of a key: in all, in this month, and today."""

    total: int = 0
    month: int = 0
    day: int = 0


class Completion(msgspec.Struct, frozen=True, kw_only=True):
    """The answer under an Idempotency-Key, as it is kept for whoever sends the request again: without any text of it.

    `holder` is the claim under which the work was done: where another has taken it over since, the answer is not kept.
    """

    key_id: str
    idempotency_key: str
    holder: str
    response: bytes


class Entry(msgspec.Struct, frozen=True, kw_only=True, array_like=True):
    """A row of the ledger: a request that was let in, and what came of it. It is never changed; a correction is another row.

    `entry` is ours and unique (UUIDv7, 32 hexadecimal digits); `request_id` is what the caller was told, which may be the
    caller's own. `at` is in milliseconds since 1970, times are in microseconds. Prices are those of that moment, in
    millionths of the currency's unit: for a million tokens, and for a thousand searches; `cost` is what came of them.
    """

    entry: str
    request_id: str
    at: int
    key_id: str
    model: str
    channel: str
    documents: int
    status: int
    tokens: int = 0
    cached_tokens: int = 0
    search_units: int = 0
    estimated: bool = False
    error: str = ""
    attempts: int = 0
    total_us: int = 0
    queue_us: int = 0
    tokenize_us: int = 0
    infer_us: int = 0
    upstream_us: int = 0
    price_tokens: int = 0
    price_searches: int = 0
    cost: int = 0
    kind: Literal["request", "adjust"] = "request"
    reference: str = ""
    completion: Completion | None = None
