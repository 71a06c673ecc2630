"""What a request takes of its key's limits before any work is done for it, and what a key is told that has nothing left."""

from __future__ import annotations

from calendar import monthrange
from collections.abc import Mapping
from math import ceil
from time import gmtime
from typing import Protocol

import msgspec

from rerankd.accounts import Allowance, Caller, Period, Spent
from rerankd.errors import QuotaExceeded, RateLimited, TooLarge

WINDOW = 60
"""Seconds in which no more than the limit is let in, wherever they begin."""
SPAN = WINDOW + 1
"""Seconds for which a whole second's sum counts, from its beginning: what came at its end counts for `WINDOW` then."""
SOON = 1.0
"""Seconds after which to try again where nobody can say when a request that is under way will end."""
NEVER = 3600.0
"""Seconds after which to try again where only a person can change anything."""
DAY = 86_400

PERIODS: tuple[Period, ...] = ("total", "month", "day")
IN_PERIOD = {"total": "in all", "month": "in a month of UTC", "day": "in a day of UTC"}
FLAGS = {
    "requests": "--rpm",
    "tokens": "--tpm",
    "documents": "--dpm",
    "concurrency": "--concurrency",
    "total": "--quota",
    "month": "--quota-month",
    "day": "--quota-day",
}


class SpentSource(Protocol):
    """The ledger, of which counters are a memory: they are set from it and never the other way round."""

    async def spent(self, key_id: str) -> Spent:
        """The sums of what is written down. Raises `StoreUnavailable`."""
        ...


class Reservation(msgspec.Struct, frozen=True):
    """What was taken, until it is settled or released; `tokens` are an estimate.

    `second` is the one that it was counted in, by the clock of whoever counts. It `expires` so many seconds after it was
    made, for where its process has died. `shared` says that other processes see it. `allowances` are what is left, by limit.
    """

    id: str
    key_id: str
    second: int
    tokens: int
    documents: int
    expires: float
    allowances: dict[str, Allowance]
    quotas: bool = False
    shared: bool = False


class Refusal(msgspec.Struct, frozen=True):
    """`error` is to be raised; nothing was taken."""

    error: RateLimited
    allowances: dict[str, Allowance]


def asked_of(caller: Caller, documents: int, tokens: int) -> list[tuple[str, int, int]]:
    """The limits of `caller` that slide: each by its name, with its value and what the request takes of it."""
    limits = caller.limits
    asked: list[tuple[str, int, int]] = []
    if limits.requests is not None:
        asked.append(("requests", limits.requests, 1))
    if limits.tokens is not None:
        asked.append(("tokens", limits.tokens, tokens))
    if limits.documents is not None:
        asked.append(("documents", limits.documents, documents))
    return asked


def refuse_impossible(caller: Caller, documents: int, tokens: int) -> None:
    """Raises `TooLarge` for a request that is more than its key may ever use in 60 s: waiting would not help."""
    for name, limit, amount in asked_of(caller, documents, tokens):
        if amount > limit:
            about = "about " if name == "tokens" else ""
            raise TooLarge(
                f"The request has {about}{amount} {name}, and this key may use {limit} in any {WINDOW} s, so it can "
                f"never be let in: send fewer documents at a time. {_raised(name)}",
                param="documents",
            )


def refusal(caller: Caller, blocked: Mapping[str, float], allowances: dict[str, Allowance]) -> Refusal:
    """`blocked` are the limits that are in the way, with the seconds until each would be none; the last to go is named."""
    name = max(blocked, key=blocked.__getitem__)
    wait = max(1, ceil(blocked[name]))
    if name in PERIODS:
        return Refusal(QuotaExceeded(_quota(caller, name, blocked[name]), retry_after=wait), allowances)
    limit = getattr(caller.limits, name)
    what = (
        f"The limit of this key is {limit} requests at one time, and so many are under way"
        if name == "concurrency"
        else f"The limit of this key is {limit} {name} in any {WINDOW} s, and it is reached"
    )
    return Refusal(RateLimited(f"{what}: try again in {wait} s. {_raised(name)}", retry_after=wait), allowances)


def _quota(caller: Caller, name: str, wait: float) -> str:
    what = f"The quota of this key is {getattr(caller.quotas, name)} tokens {IN_PERIOD[name]}"
    if wait == SOON:
        return f"{what}, and requests that are under way may need what is left: try again in {ceil(wait)} s. {_raised(name)}"
    when = "it does not come back by itself" if name == "total" else f"there is more in {ceil(wait)} s"
    return f"{what}, and too little is left for this request: {when}. {_raised(name)}"


def _raised(name: str) -> str:
    return f"Whoever runs this server can raise it: rerankd keys update KEY {FLAGS[name]} NUMBER."


def until_more(period: Period, at: float) -> float:
    """Seconds from `at`, in seconds since 1970, until a new `period` begins."""
    if period == "total":
        return NEVER
    day_left = DAY - at % DAY
    if period == "day":
        return day_left
    date = gmtime(at)
    return day_left + (monthrange(date.tm_year, date.tm_mon)[1] - date.tm_mday) * DAY
