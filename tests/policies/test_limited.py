from __future__ import annotations

import asyncio
from collections.abc import Mapping
from time import monotonic

import msgspec
import pytest

from rerankd.accounts import Allowance, Caller, Limits, Quotas
from rerankd.errors import QuotaExceeded, RateLimited, StoreUnavailable, TooLarge, UpstreamError
from rerankd.estimate import estimated_request
from rerankd.policies.limited import BEYOND, Limited
from rerankd.policies.memory_counters import MemoryCounters
from rerankd.policies.shared_counters import FallingBack, share_of
from rerankd.reranker import Reranker
from rerankd.reservations import Refusal, Reservation
from rerankd.server.ratelimit_headers import ratelimit_headers
from rerankd.types import LOCAL, Call, RerankRequest, RerankResponse, Usage
from tests.conftest import FakeReranker, request_for
from tests.policies.ledgers import FakeLedger
from tests.policies.upstream import Clock

LIMITED = Caller(id="key", name="key", limits=Limits(requests=2, concurrency=1), quotas=Quotas(total=1000))


def call_of(caller: Caller | None, deadline: float | None = None) -> Call:
    return Call("the-request", deadline=deadline, caller=caller)


class Counting(FakeReranker):
    """Says that it took so many tokens, and has its row in the ledger."""

    def __init__(self, tokens: int, channel: str = LOCAL, ledger: FakeLedger | None = None) -> None:
        super().__init__()
        self.tokens = tokens
        self.channel = channel
        self.ledger = ledger

    async def rerank(self, request: RerankRequest, call: Call) -> RerankResponse:
        answer = await super().rerank(request, call)
        call.notes.channel = self.channel
        if self.ledger is not None:
            call.notes.sequence = self.ledger.record("key", self.tokens)
        return msgspec.structs.replace(answer, usage=Usage(prompt_tokens=self.tokens))


def counted_by(ledger: FakeLedger | None = None) -> MemoryCounters:
    return MemoryCounters(ledger, lambda: ledger.visible if ledger else 0, Clock())


def total(counters: MemoryCounters) -> tuple[int, int]:
    spending = counters.spending("key")
    assert spending is not None
    return spending.used.total, spending.reserved


@pytest.mark.parametrize("caller", [None, Caller(id="key", name="key")])
async def test_who_has_no_limits_is_not_seen_at_all(caller: Caller | None) -> None:
    counters = counted_by()
    await Limited(FakeReranker(), counters, 60).rerank(request_for(), call_of(caller))
    assert counters.count == 0


async def test_what_the_answer_says_it_took_is_what_is_paid_and_no_row_counts_twice() -> None:
    ledger = FakeLedger()
    counters = counted_by(ledger)
    call = call_of(LIMITED)
    await Limited(Counting(70, ledger=ledger), counters, 60).rerank(request_for(), call)
    assert total(counters) == (70, 0)
    assert call.notes.allowances["requests"].remaining == 1
    await counters.seed("key")
    assert total(counters) == (70, 0)


@pytest.mark.parametrize(("channel", "paid"), [("there", estimated_request(request_for())), (LOCAL, 0)])
async def test_a_channel_that_says_it_took_nothing_has_not_counted(channel: str, paid: int) -> None:
    counters = counted_by()
    await Limited(Counting(0, channel), counters, 60).rerank(request_for(), call_of(LIMITED))
    assert total(counters) == (paid, 0)


async def test_work_that_fails_gives_its_tokens_back_and_was_a_request() -> None:
    class Failing:
        async def rerank(self, request: RerankRequest, call: Call) -> RerankResponse:
            raise UpstreamError("It failed.")

    counters = counted_by()
    for _ in range(2):
        with pytest.raises(UpstreamError):
            await Limited(Failing(), counters, 60).rerank(request_for(), call_of(LIMITED))
    assert total(counters) == (0, 0)
    with pytest.raises(RateLimited, match="2 requests in any 60 s"):
        await Limited(Failing(), counters, 60).rerank(request_for(), call_of(LIMITED))


async def test_a_caller_that_goes_away_leaves_nothing_reserved() -> None:
    counters = counted_by()
    work = asyncio.create_task(Limited(FakeReranker(seconds=5), counters, 60).rerank(request_for(), call_of(LIMITED)))
    await asyncio.sleep(0.01)
    with pytest.raises(RateLimited, match="1 requests at one time"):
        await Limited(FakeReranker(), counters, 60).rerank(request_for(), call_of(LIMITED))
    work.cancel()
    with pytest.raises(asyncio.CancelledError):
        await work
    assert total(counters) == (0, 0)
    await Limited(FakeReranker(), counters, 60).rerank(request_for(), call_of(LIMITED))


def told(allowances: Mapping[str, Allowance]) -> dict[str, str]:
    return {name.decode(): value.decode() for name, value in ratelimit_headers(allowances)}


async def test_a_refusal_does_no_work_and_says_what_is_left() -> None:
    inner, counters = FakeReranker(), counted_by()
    caller = msgspec.structs.replace(LIMITED, quotas=Quotas(day=5))
    call = call_of(caller)
    with pytest.raises(QuotaExceeded):
        await Limited(inner, counters, 60).rerank(request_for(), call)
    with pytest.raises(TooLarge):
        await Limited(inner, counters, 60).rerank(
            request_for(), call_of(msgspec.structs.replace(LIMITED, limits=Limits(documents=2)))
        )
    assert not inner.asked
    assert told(call.notes.allowances) == {
        "x-ratelimit-limit-requests": "2",
        "x-ratelimit-remaining-requests": "2",
        "x-ratelimit-reset-requests": "0s",
    }


def test_headers_are_as_openai_writes_them() -> None:
    headers = told({"tokens": Allowance(100, 40, 29.2), "documents": Allowance(7, 0, 1.0)})
    assert headers == {
        "x-ratelimit-limit-tokens": "100",
        "x-ratelimit-remaining-tokens": "40",
        "x-ratelimit-reset-tokens": "30s",
        "x-ratelimit-limit-documents": "7",
        "x-ratelimit-remaining-documents": "0",
        "x-ratelimit-reset-documents": "1s",
    }


class Shared:
    """Counters elsewhere, which are there or away."""

    processes: int | None = None
    away = False

    def __init__(self) -> None:
        self.asked: list[float] = []
        self.ended: list[Reservation] = []

    async def reserve(
        self, caller: Caller, *, documents: int, tokens: int, seconds: float
    ) -> Reservation | Refusal | None:
        self.asked.append(seconds)
        return None if self.away else Reservation("a", caller.id, 0, tokens, documents, seconds, {}, shared=True)

    def settle(self, reservation: Reservation, tokens: int, sequence: int | None) -> None:
        self.ended.append(reservation)

    def release(self, reservation: Reservation) -> None:
        self.ended.append(reservation)


async def test_a_reservation_outlives_the_deadline_by_a_minute() -> None:
    shared = Shared()
    limited: Reranker = Limited(FakeReranker(), FallingBack(shared, counted_by(), 1), 30)
    await limited.rerank(request_for(), call_of(LIMITED, monotonic() + 10))
    await limited.rerank(request_for(), call_of(LIMITED))
    assert shared.asked == [pytest.approx(10 + BEYOND, abs=1), 30 + BEYOND]


async def test_while_others_cannot_be_heard_each_process_has_its_share_and_each_side_ends_what_it_began() -> None:
    shared, own = Shared(), counted_by()
    counters = FallingBack(shared, own, 4)
    caller = Caller(id="key", name="key", limits=Limits(requests=12))

    async def reserve() -> Reservation | Refusal:
        return await counters.reserve(caller, documents=1, tokens=1, seconds=60)

    first = await reserve()
    shared.away = True
    second = [await reserve() for _ in range(3)]
    assert isinstance(await reserve(), Refusal)
    shared.processes = 3
    fourth = await reserve()
    assert isinstance(await reserve(), Refusal)
    shared.away = False
    for outcome in (first, *second, fourth):
        assert isinstance(outcome, Reservation)
        counters.settle(outcome, 1, None)
    assert shared.ended == [first]
    assert own._accounts["key"].running == 0


def test_a_share_is_never_too_small_for_what_the_limit_allows() -> None:
    limits = Limits(requests=2, documents=150, concurrency=10)
    assert share_of(limits, 3, documents=100, tokens=1) == Limits(requests=1, documents=100, concurrency=3)
    assert share_of(limits, 3, documents=20, tokens=1) == Limits(requests=1, documents=50, concurrency=3)


async def test_a_quota_that_nobody_knows_lets_nobody_in() -> None:
    ledger, inner = FakeLedger(), FakeReranker()
    ledger.away = True
    with pytest.raises(StoreUnavailable):
        await Limited(inner, counted_by(ledger), 60).rerank(request_for(), call_of(LIMITED))
    assert not inner.asked
