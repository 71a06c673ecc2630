"""A reranker whose every request becomes a row of the ledger; an answer is given only when its row is on the disk.

What failed or was given up costs nothing, and nobody waits for its row. No text of a request is in a row.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from time import perf_counter, time
from typing import Protocol

import msgspec

from rerankd.accounts import Completion, Entry
from rerankd.errors import Abandoned, ModelNotFound, RerankError
from rerankd.estimate import search_units
from rerankd.policies.idempotent import completion_of
from rerankd.policies.prices import FREE, Price, Prices
from rerankd.policies.uuid7 import uuid7
from rerankd.reranker import Reranker
from rerankd.types import Call, RerankRequest, RerankResponse, Usage

ANSWERED, UNKNOWN = 200, 500
LONGEST_REQUEST_ID, LONGEST_MODEL, LONGEST_CHANNEL = 128, 256, 64
NOTHING = Usage(prompt_tokens=0)


class Ledger(Protocol):
    async def record(self, entry: Entry, *, others: bool = ...) -> int:
        """The row's sequence number; the row is durable, and there once however often it is recorded.

        `others` says that further rows are about to come, for which it may wait for a millisecond. Raises
        `StoreUnavailable`.
        """
        ...

    def note(self, entry: Entry) -> None:
        """The row is written soon; nobody waits."""
        ...

    @property
    def visible(self) -> int:
        """Every row with a sequence number up to this one is in the database's sums."""
        ...


class Metered:
    def __init__(self, inner: Reranker, ledger: Ledger, prices: Prices, clock: Callable[[], float] = time) -> None:
        """`clock` tells seconds since 1970."""
        self._inner = inner
        self._ledger = ledger
        self._prices = prices
        self._clock = clock
        self._working = 0

    async def rerank(self, request: RerankRequest, call: Call) -> RerankResponse:
        """Raises `StoreUnavailable` where the row cannot be written: what is not charged is not given."""
        at, started = int(self._clock() * 1000), perf_counter()
        self._working += 1
        try:
            answer = await self._inner.rerank(request, call)
        except BaseException as error:
            self._ledger.note(self._failed(request, call, error, at, _us(started)))
            raise
        finally:
            self._working -= 1
        entry = self._answered(request, answer, call, at, _us(started))
        try:
            call.notes.sequence = await self._ledger.record(entry, others=self._working > 0)
        except asyncio.CancelledError:
            call.notes.sequence = await self._ledger.record(entry)  # it is on its way: this only waits for it
            raise
        return answer

    def _answered(self, request: RerankRequest, answer: RerankResponse, call: Call, at: int, took: int) -> Entry:
        price, usage = self._prices.of(answer.model), answer.usage
        if usage.search_units is None:
            usage = msgspec.structs.replace(usage, search_units=search_units(usage, len(request.documents)))
        completion = completion_of(request, answer, call)
        return _entry(request, call, at, took, model=answer.model, usage=usage, price=price, completion=completion)

    def _failed(self, request: RerankRequest, call: Call, error: BaseException, at: int, took: int) -> Entry:
        status, code = _outcome(error)
        model = "" if isinstance(error, ModelNotFound) else request.model or ""  # anybody could make names up
        return _entry(request, call, at, took, model=model, price=self._prices.of(model), status=status, error=code)


def _entry(
    request: RerankRequest,
    call: Call,
    at: int,
    took: int,
    *,
    model: str,
    usage: Usage = NOTHING,
    price: Price = FREE,
    status: int = ANSWERED,
    error: str = "",
    completion: Completion | None = None,
) -> Entry:
    notes, timings = call.notes, call.notes.timings
    return Entry(
        entry=uuid7(),
        request_id=_kept(call.request_id, LONGEST_REQUEST_ID),
        at=at,
        key_id="" if call.caller is None else call.caller.id,
        model=_kept(model, LONGEST_MODEL),
        channel=_kept(notes.channel or "", LONGEST_CHANNEL),
        documents=len(request.documents),
        status=status,
        tokens=usage.prompt_tokens,
        cached_tokens=usage.cached_tokens,
        search_units=usage.search_units or 0,
        estimated=usage.estimated,
        error=error,
        attempts=notes.attempts,
        total_us=took,
        queue_us=_stage(timings.get("queue")),
        tokenize_us=_stage(timings.get("tokenize")),
        infer_us=_stage(timings.get("infer")),
        upstream_us=_stage(timings.get("upstream")),
        price_tokens=price.tokens,
        price_searches=price.searches,
        cost=price.cost(usage),
        completion=completion,
    )


def _outcome(error: BaseException) -> tuple[int, str]:
    """The status and the code of what the caller is told, as far as one is told."""
    if isinstance(error, RerankError):
        return error.status, error.code
    if isinstance(error, asyncio.CancelledError):
        return Abandoned.status, "cancelled"
    return UNKNOWN, RerankError.code


def _kept(text: str, longest: int) -> str:
    """As every database can hold it; names and ids of ours are never changed by it."""
    if text.isascii() and text.isprintable():
        return text[:longest]
    return text.encode("utf-8", "replace").decode().replace("\0", "?")[:longest]


def _stage(milliseconds: float | None) -> int:
    return 0 if milliseconds is None else round(milliseconds * 1000)


def _us(since: float) -> int:
    return round((perf_counter() - since) * 1_000_000)
