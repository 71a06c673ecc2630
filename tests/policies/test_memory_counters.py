from __future__ import annotations

import asyncio
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rerankd.accounts import Caller, Limits, Quotas, Spent
from rerankd.errors import QuotaExceeded, RateLimited, StoreUnavailable, TooLarge
from rerankd.policies import memory_counters, spending
from rerankd.policies.memory_counters import SEED_EVERY, STALE, MemoryCounters
from rerankd.reservations import DAY, SPAN, Refusal, Reservation, refuse_impossible
from tests.policies.ledgers import FakeLedger
from tests.policies.upstream import Clock

HOUR = 3600.0
NOON = 1_795_262_400.0
"""Of 2026-11-21, UTC."""


def caller(name: str = "key", quotas: Quotas | None = None, **limits: int) -> Caller:
    return Caller(id=name, name=name, limits=Limits(**limits), quotas=quotas or Quotas())


def counters(ledger: FakeLedger | None = None, clock: Clock | None = None, wall: Clock | None = None) -> MemoryCounters:
    visible = (lambda: ledger.visible) if ledger else (lambda: 0)
    return MemoryCounters(ledger, visible, clock or Clock(), wall or Clock(NOON))


async def asked(counted: MemoryCounters, who: Caller, documents: int = 1, tokens: int = 1) -> Reservation | Refusal:
    return await counted.reserve(who, documents=documents, tokens=tokens, seconds=120)


async def let_in(counted: MemoryCounters, who: Caller, **amounts: int) -> Reservation:
    outcome = await asked(counted, who, **amounts)
    assert isinstance(outcome, Reservation), outcome
    return outcome


async def refused(counted: MemoryCounters, who: Caller, **amounts: int) -> RateLimited:
    outcome = await asked(counted, who, **amounts)
    assert isinstance(outcome, Refusal)
    return outcome.error


# Windows


PAUSES = st.sampled_from([0, 0.25, 0.5, 0.75, 1, 10, 29.75, 59, 59.25, 59.5, 59.75, 60, 60.25, 60.75, 61])
STEPS = st.lists(st.tuples(PAUSES, st.integers(1, 4)), min_size=1, max_size=60)


@given(STEPS, st.integers(1, 12))
async def test_no_60_s_hold_more_than_the_limit_and_nothing_is_refused_without_need(
    steps: list[tuple[float, int]], limit: int
) -> None:
    clock = Clock()
    counted, who = counters(clock=clock), caller(documents=limit)
    log: list[tuple[float, int]] = []
    for pause, documents in steps:
        clock.now += pause
        outcome = await asked(counted, who, documents=documents)
        recent = sum(amount for at, amount in log if at > clock.now - 60)
        if isinstance(outcome, Reservation):
            log.append((clock.now, documents))
            assert recent + documents <= limit
        else:  # a second's sum may count for up to a second more
            assert sum(amount for at, amount in log if at >= clock.now - SPAN) + documents > limit


@given(STEPS, st.integers(4, 12), st.integers(4, 12))
async def test_after_the_seconds_that_a_refusal_names_the_same_request_is_let_in(
    steps: list[tuple[float, int]], documents: int, tokens: int
) -> None:
    clock = Clock()
    counted, who = counters(clock=clock), caller(documents=documents, tokens=tokens, requests=20)
    for pause, amount in steps:
        clock.now += pause
        outcome = await asked(counted, who, documents=amount, tokens=5 - amount)
        if isinstance(outcome, Refusal):
            wait = outcome.error.retry_after
            assert wait is not None
            assert 1 <= wait <= SPAN
            clock.now += wait
            assert isinstance(await asked(counted, who, documents=amount, tokens=5 - amount), Reservation)


async def test_a_window_is_as_large_after_a_year_of_use_as_after_a_minute() -> None:
    clock = Clock()
    counted, who = counters(clock=clock), caller(requests=10**6)
    for _ in range(1000):
        clock.now += 1
        counted.settle(await let_in(counted, who), 0, None)
    assert len(counted._accounts["key"].windows["requests"]._seconds) == SPAN


async def test_what_it_was_takes_the_place_of_what_it_was_thought_to_be() -> None:
    clock = Clock()
    counted, who = counters(clock=clock), caller(tokens=100)
    first = await let_in(counted, who, tokens=90)
    assert "100 tokens in any 60 s" in (await refused(counted, who, tokens=11)).message
    counted.settle(first, 30, None)
    second = await let_in(counted, who, tokens=70)
    counted.release(second)
    third = await let_in(counted, who, tokens=70)
    assert third.allowances["tokens"].remaining == 0
    clock.now += SPAN
    assert (await let_in(counted, who, tokens=1)).allowances["tokens"].remaining == 99
    counted.settle(third, 1000, None)  # its second is forgotten
    assert (await let_in(counted, who, tokens=99)).allowances["tokens"].remaining == 0


async def test_a_refusal_takes_nothing_and_says_what_is_left() -> None:
    counted, who = counters(), caller(requests=10, documents=5)
    await let_in(counted, who, documents=3)
    outcome = await asked(counted, who, documents=3)
    assert isinstance(outcome, Refusal)
    left = {name: (each.limit, each.remaining) for name, each in outcome.allowances.items()}
    assert left == {"requests": (10, 9), "documents": (5, 2)}
    assert outcome.error.message == (
        "The limit of this key is 5 documents in any 60 s, and it is reached: try again in 61 s. "
        "Whoever runs this server can raise it: rerankd keys update KEY --dpm NUMBER."
    )


async def test_one_key_does_not_use_up_what_is_anothers() -> None:
    counted = counters()
    await let_in(counted, caller("one", requests=1))
    await refused(counted, caller("one", requests=1))
    await let_in(counted, caller("two", requests=1))


async def test_as_many_at_a_time_as_the_limit_and_then_the_next() -> None:
    counted, who = counters(), caller(concurrency=2)
    one, _ = [await let_in(counted, who) for _ in range(2)]
    error = await refused(counted, who)
    assert (error.status, error.retry_after) == (429, 1)
    counted.release(one)
    await let_in(counted, who)


@pytest.mark.parametrize("jump", [HOUR, -HOUR])
async def test_a_wall_clock_that_jumps_leaves_nothing_stuck(jump: float) -> None:
    clock, wall, ledger = Clock(), Clock(NOON), FakeLedger()
    counted = counters(ledger, clock, wall)
    who = caller(requests=2, concurrency=1, quotas=Quotas(day=100, month=100))
    for _ in range(2):
        counted.settle(await let_in(counted, who), 10, ledger.record("key", 10))
    wall.now += jump
    assert (await refused(counted, who)).retry_after == SPAN
    clock.now += SPAN
    counted.settle(await let_in(counted, who, tokens=80), 80, ledger.record("key", 80))
    assert isinstance(await refused(counted, who), QuotaExceeded)


async def test_keys_that_nobody_uses_are_forgotten_and_no_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory_counters, "MANY", 10)
    clock = Clock()
    counted = counters(clock=clock)
    counted._many = 10
    running = await let_in(counted, caller("running", concurrency=1))
    await let_in(counted, caller("spending", quotas=Quotas(total=10)))
    for number in range(8):
        counted.settle(await let_in(counted, caller(f"old {number}", requests=1)), 0, None)
    clock.now += SPAN
    for number in range(50):
        counted.settle(await let_in(counted, caller(f"new {number}", requests=1)), 0, None)
    assert counted.count == 52
    assert isinstance(await refused(counted, caller("running", concurrency=1)), RateLimited)
    assert isinstance(await refused(counted, caller("new 0", requests=1)), RateLimited)
    counted.release(running)


def test_a_request_that_could_never_pass_is_too_large_and_not_too_early() -> None:
    with pytest.raises(TooLarge, match=r"has 100 documents, and this key may use 50 .* never .*--dpm"):
        refuse_impossible(caller(documents=50), 100, 1)
    refuse_impossible(caller(documents=50, tokens=10), 50, 10)


# Quotas


async def test_a_quota_begins_with_what_the_ledger_says_and_the_first_request_waits_for_that() -> None:
    ledger = FakeLedger(before=95)
    ledger.seconds = 0.01
    counted, who = counters(ledger), caller(quotas=Quotas(total=100))
    outcomes = await asyncio.gather(*(asked(counted, who) for _ in range(10)))
    assert sum(isinstance(outcome, Reservation) for outcome in outcomes) == 5
    assert ledger.asked == 1


@pytest.mark.parametrize(("period", "wait"), [("total", 3600), ("month", 9.5 * DAY), ("day", DAY / 2)])
async def test_a_quota_that_is_used_up_says_when_there_is_more(period: str, wait: float) -> None:
    ledger = FakeLedger(before=100)
    error = await refused(counters(ledger), caller(quotas=Quotas(**{period: 100})))
    assert isinstance(error, QuotaExceeded)
    assert error.retry_after == wait
    assert "The quota of this key is 100 tokens in" in error.message


async def test_what_requests_under_way_may_need_is_no_ones_else_but_may_soon_be_free() -> None:
    counted, who = counters(), caller(quotas=Quotas(total=100))
    first = await let_in(counted, who, tokens=90)
    assert (await refused(counted, who, tokens=20)).retry_after == 1
    counted.settle(first, 10, None)
    await let_in(counted, who, tokens=90)


async def test_a_new_day_and_a_new_month_begin_at_nothing() -> None:
    ledger, wall = FakeLedger(before=100), Clock(NOON)
    counted, who = counters(ledger, wall=wall), caller(quotas=Quotas(day=100))
    by_month = caller("other", quotas=Quotas(month=100))
    for each in (who, by_month):
        await refused(counted, each)
    ledger.away = True
    wall.now += DAY
    await let_in(counted, who)
    await refused(counted, by_month)
    wall.now += 9 * DAY
    await let_in(counted, by_month)


async def test_while_the_database_is_away_known_keys_are_counted_on_and_unknown_ones_are_not_let_in() -> None:
    clock, ledger = Clock(), FakeLedger()
    counted, who = counters(ledger, clock), caller(quotas=Quotas(total=100))
    counted.settle(await let_in(counted, who, tokens=60), 60, ledger.record("key", 60))
    ledger.away = True
    clock.now += SEED_EVERY
    counted.settle(await let_in(counted, who, tokens=30), 30, ledger.record("key", 30, at_once=False))
    await asyncio.sleep(0.01)
    assert isinstance(await refused(counted, who, tokens=20), QuotaExceeded)
    with pytest.raises(StoreUnavailable) as caught:
        await asked(counted, caller("unknown", quotas=Quotas(total=100)))
    assert caught.value.retry_after
    ledger.away = False
    clock.now += SEED_EVERY
    await let_in(counted, who, tokens=5)
    await asyncio.sleep(0.01)
    assert used(counted).total == 90  # 60 by the ledger, and 30 that it cannot show yet
    counted.close()


def used(counted: MemoryCounters) -> Spent:
    known = counted.spending("key")
    assert known is not None
    return known.used


async def test_a_key_that_was_not_used_for_long_begins_with_what_others_have_spent_meanwhile() -> None:
    clock, ledger = Clock(), FakeLedger(before=50)
    counted, who = counters(ledger, clock), caller(quotas=Quotas(total=100))
    await let_in(counted, who, tokens=10)
    ledger.before = 95
    clock.now += SEED_EVERY + STALE
    await refused(counted, who, tokens=10)


async def test_sums_that_are_read_a_hundred_times_under_load_double_nothing_and_lose_nothing() -> None:
    ledger = FakeLedger(before=5)
    counted, who = counters(ledger), caller(quotas=Quotas(total=10**9, day=10**9))

    async def one(number: int) -> None:
        for turn in range(20):
            reservation = await let_in(counted, who, tokens=50)
            await asyncio.sleep(0)
            if (number + turn) % 5 == 0:
                counted.release(reservation)
                continue
            row = ledger.record("key", number, at_once=turn % 2 == 0)
            await asyncio.sleep(0)
            counted.settle(reservation, number, row)

    async def again() -> None:
        for _ in range(100):
            ledger.seconds = 0.0002
            await counted.seed("key")

    await asyncio.gather(again(), *map(one, range(1, 51)))
    paid = 5 + sum(tokens for _, tokens in ledger.rows)
    assert used(counted).total >= paid  # what is not visible yet is counted here
    ledger.visible = len(ledger.rows)
    for _ in range(2):
        await counted.seed("key")
        assert used(counted) == Spent(total=paid, month=paid, day=paid)
    known = counted.spending("key")
    assert known is not None
    assert known.reserved == 0


async def test_what_is_settled_after_its_row_was_read_counts_once() -> None:
    ledger = FakeLedger()
    counted, who = counters(ledger), caller(quotas=Quotas(total=100))
    reservation = await let_in(counted, who, tokens=50)
    row = ledger.record("key", 40)
    await counted.seed("key")
    counted.settle(reservation, 40, row)
    assert used(counted).total == 40


async def test_what_the_ledger_cannot_show_for_long_is_bounded_and_still_counted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(spending, "MOST_SETTLED", 10)
    ledger = FakeLedger()
    counted, who = counters(ledger), caller(quotas=Quotas(total=10**6))
    for _ in range(100):
        counted.settle(await let_in(counted, who), 7, ledger.record("key", 7, at_once=False))
    known: Any = counted.spending("key")
    assert len(known._settled) == 10
    ledger.visible = 50
    await counted.seed("key")
    assert used(counted).total >= 700
    ledger.visible = 100
    await counted.seed("key")
    assert used(counted).total == 700
