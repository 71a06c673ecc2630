from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from time import perf_counter, time
from typing import TYPE_CHECKING, Any

import pytest

from rerankd.accounts import Caller, Limits, Quotas
from rerankd.errors import BadSettings, QuotaExceeded, RateLimited, StoreUnavailable
from rerankd.policies.memory_counters import MemoryCounters
from rerankd.policies.shared_counters import FallingBack
from rerankd.reservations import DAY, SPAN, Refusal, Reservation
from rerankd.store import redis_connection, redis_counters, redis_lane, redis_scripts
from rerankd.store.redis_connection import FAILURES, PAUSE
from rerankd.store.redis_counters import PREFIX, RedisCounters
from rerankd.store.redis_lane import Script
from tests.policies.ledgers import FakeLedger
from tests.store.redis_server import RedisServer

if TYPE_CHECKING:
    import redis

NOBODY = "redis://127.0.0.1:1/0"

pytestmark = pytest.mark.usefixtures("patient")


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """What has to be waited for comes soon."""
    monkeypatch.setattr(redis_connection, "PAUSE", 0.1)
    monkeypatch.setattr(redis_counters, "BEAT_EVERY", 0.05)


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def caller(name: str = "key", quotas: Quotas | None = None, **limits: int) -> Caller:
    return Caller(id=name, name=name, limits=Limits(**limits), quotas=quotas or Quotas())


@asynccontextmanager
async def counting(
    server: RedisServer | str, ledger: FakeLedger | None = None, **options: Any
) -> AsyncIterator[RedisCounters]:
    url = server if isinstance(server, str) else server.url
    counters = RedisCounters(url, ledger, lambda: ledger.visible if ledger else 0, **options)
    try:
        yield counters
    finally:
        counters.close()
        await asyncio.sleep(0.01)


async def asked(
    counters: RedisCounters, who: Caller, documents: int = 1, tokens: int = 1, seconds: float = 120
) -> Reservation | Refusal | None:
    return await counters.reserve(who, documents=documents, tokens=tokens, seconds=seconds)


async def let_in(counters: RedisCounters, who: Caller, **amounts: Any) -> Reservation:
    outcome = await asked(counters, who, **amounts)
    assert isinstance(outcome, Reservation), outcome
    return outcome


async def refused(counters: RedisCounters, who: Caller, **amounts: Any) -> RateLimited:
    outcome = await asked(counters, who, **amounts)
    assert isinstance(outcome, Refusal), outcome
    return outcome.error


async def settle(counters: RedisCounters, reservation: Reservation, tokens: int, sequence: int | None = None) -> None:
    counters.settle(reservation, tokens, sequence)
    await in_redis(counters)


async def in_redis(counters: RedisCounters) -> None:
    async with asyncio.timeout(10):
        while counters._lane.waiting or counters._lane._running:
            counters._lane.go_on()
            await asyncio.sleep(0.001)


def spent(client: redis.Redis, field: str = "total", key: str = "key") -> int:
    value: Any = client.hget(f"{PREFIX}key:{key}:Q", field)
    return int(value)


async def until(true: Callable[[], Awaitable[bool]], seconds: float = 10) -> None:
    async with asyncio.timeout(seconds):
        while not await true():
            await asyncio.sleep(0.01)


# One process, as in memory


async def test_limits_are_those_of_all_who_ask_and_what_it_was_takes_the_estimates_place(
    redis_server: RedisServer, redis_client: redis.Redis
) -> None:
    who = caller(requests=4, tokens=100, documents=20, concurrency=2)
    async with counting(redis_server) as one, counting(redis_server) as two:
        first = await let_in(one, who, tokens=90, documents=5)
        outcome = await asked(two, who, tokens=11, documents=16)
        assert isinstance(outcome, Refusal)
        left = {name: (each.limit, each.remaining) for name, each in outcome.allowances.items()}
        assert left == {"requests": (4, 3), "tokens": (100, 10), "documents": (20, 15)}
        assert outcome.error.retry_after in (60, 61)
        await settle(one, first, 30)
        second = await let_in(two, who, tokens=70)
        third = await let_in(one, who, tokens=0)
        assert "2 requests at one time" in (await refused(two, who, tokens=0)).message
        two.release(second)
        await in_redis(two)
        assert (await let_in(two, who, tokens=70)).allowances["tokens"].remaining == 0
        await settle(one, third, 0)
        assert "4 requests in any 60 s" in (await refused(two, who, tokens=0)).message
    assert all(redis_client.pttl(name) > 0 for name in names(redis_client, "key:"))


def names(client: redis.Redis, part: str) -> list[Any]:
    found: Any = client.keys(f"{PREFIX}{part}*")
    return list(found)


async def test_a_second_counts_for_60_and_a_refusal_says_when_it_is_over(
    redis_server: RedisServer, redis_client: redis.Redis
) -> None:
    windows = f"{PREFIX}key:key:W"
    async with counting(redis_server) as counters:
        await let_in(counters, caller(documents=10), documents=4)
        passed(redis_client, windows, 50)
        await let_in(counters, caller(documents=10), documents=6)
        assert (await refused(counters, caller(documents=10), documents=4)).retry_after in (10, 11)
        assert (await refused(counters, caller(documents=10), documents=5)).retry_after in (60, 61)
        passed(redis_client, windows, 9)
        await refused(counters, caller(documents=10), documents=4)
        passed(redis_client, windows, 2)
        await let_in(counters, caller(documents=10), documents=4)
        passed(redis_client, windows, 1000)
        assert (await let_in(counters, caller(documents=10), documents=10)).allowances["documents"].remaining == 0
        fields: Any = redis_client.hkeys(windows)
        assert len(fields) < 12


def passed(client: redis.Redis, windows: str, seconds: int) -> None:
    """As if the clock of the windows had gone on."""
    client.hincrby(windows, "offset", seconds * 1000)


@pytest.mark.parametrize("jump", [3600, -3600])
async def test_a_clock_of_redis_that_jumps_leaves_nothing_stuck(
    redis_server: RedisServer, redis_client: redis.Redis, jump: int
) -> None:
    windows, who = f"{PREFIX}key:key:W", caller(requests=1, concurrency=1)
    async with counting(redis_server) as counters:
        first = await let_in(counters, who)
        passed(redis_client, windows, jump)  # an hour back is what an hour less of offset looks like
        if jump < 0:
            assert (await refused(counters, who)).retry_after in (60, 61)
            passed(redis_client, windows, SPAN)
            await settle(counters, first, 1)
        await let_in(counters, who)


async def test_the_calendar_is_that_of_utc(redis_client: redis.Redis) -> None:
    script = (
        redis_scripts.CLOCK + redis_scripts.CALENDAR + "local day, month = date(tonumber(ARGV[1])) return {day, month}"
    )
    from datetime import UTC, datetime, timedelta

    months = []
    for number in range(0, 365 * 9, 3):
        date = datetime(2023, 12, 31, 23, 59, 59, tzinfo=UTC) + timedelta(days=number)
        day, month = redis_client.eval(script, 0, int(date.timestamp()))
        assert day == int(date.timestamp()) // DAY
        months.append((month, (date.year, date.month)))
    assert len(set(months)) == len({month for month, _ in months}) == len({month for _, month in months}) > 100


# Quotas


async def test_a_quota_is_set_from_the_ledger_and_a_row_that_is_in_its_sums_counts_once(
    redis_server: RedisServer, redis_client: redis.Redis
) -> None:
    ledger, who = FakeLedger(before=50), caller(quotas=Quotas(total=100))
    async with counting(redis_server, ledger) as one, counting(redis_server, ledger) as two:
        outcomes = await asyncio.gather(*(asked(each, who, tokens=10) for each in (one, two) for _ in range(5)))
        reservations = [each for each in outcomes if isinstance(each, Reservation)]
        assert len(reservations) == 5
        assert ledger.asked <= 2
        assert (await refused(two, who, tokens=10)).retry_after == 1
        for reservation in reservations:
            await settle(one, reservation, 8, ledger.record("key", 8))
        assert (spent(redis_client), spent(redis_client, "reserved")) == (90, 0)
        for each in (one, two):
            assert await each.seed("key")
            assert spent(redis_client) == 90
        error = await refused(two, who, tokens=11)
        assert isinstance(error, QuotaExceeded)
        assert error.retry_after == 3600


async def test_a_settlement_that_is_sent_twice_or_after_the_sums_were_read_counts_once(
    redis_server: RedisServer, redis_client: redis.Redis
) -> None:
    ledger, who = FakeLedger(), caller(quotas=Quotas(total=100), tokens=100)
    async with counting(redis_server, ledger) as counters:
        early, late = [await let_in(counters, who, tokens=20) for _ in range(2)]
        row = ledger.record("key", 7, at_once=False)
        for _ in range(2):
            await settle(counters, early, 7, row)
        assert spent(redis_client) == 7
        row = ledger.record("key", 9)
        assert await counters.seed("key")
        await settle(counters, late, 9, row)
        assert (spent(redis_client), spent(redis_client, "reserved")) == (16, 0)
        assert (await let_in(counters, who)).allowances["tokens"].remaining == 83


async def test_who_reads_the_sums_too_slowly_is_not_believed(
    redis_server: RedisServer, redis_client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(redis_counters, "LEASE", 20)
    slow, fast = FakeLedger(before=1), FakeLedger(before=2)
    slow.seconds = 0.2
    async with counting(redis_server, slow) as one, counting(redis_server, fast) as two:
        late = asyncio.ensure_future(one.seed("key"))
        await asyncio.sleep(0.1)
        assert await two.seed("key")
        assert not await late
    assert spent(redis_client) == 2


async def test_while_the_database_is_away_what_is_known_goes_on(
    redis_server: RedisServer, redis_client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(redis_counters, "SEED_EVERY", 0)
    monkeypatch.setattr(redis_counters, "SEED_AGAIN", 0.0)
    ledger, who = FakeLedger(before=90), caller(quotas=Quotas(total=100))
    async with counting(redis_server, ledger) as counters:
        await let_in(counters, who, tokens=4)
        ledger.away = True
        await let_in(counters, who, tokens=4)
        await asyncio.gather(*counters._seeding.values(), return_exceptions=True)
        assert isinstance(await refused(counters, who, tokens=4), QuotaExceeded)
        with pytest.raises(StoreUnavailable):
            await asked(counters, caller("unknown", Quotas(total=100)))


async def test_sums_that_are_read_a_hundred_times_under_load_double_nothing_and_lose_nothing(
    redis_server: RedisServer, redis_client: redis.Redis
) -> None:
    ledgers = [FakeLedger(), FakeLedger()]  # each process has numbers of its own; the sums are of both

    async def sums(key_id: str, ask: Callable[[str], Awaitable[Any]] = ledgers[0].spent) -> Any:
        ledgers[0].before = sum(tokens for _, tokens in ledgers[1].rows[: ledgers[1].visible])
        return await ask(key_id)

    ledgers[0].spent = ledgers[1].spent = sums  # type: ignore[method-assign]
    who = caller(quotas=Quotas(total=10**9, month=10**9))
    async with counting(redis_server, ledgers[0]) as one, counting(redis_server, ledgers[1]) as two:

        async def work(counters: RedisCounters, ledger: FakeLedger, number: int) -> None:
            for turn in range(20):
                reservation = await let_in(counters, who, tokens=50)
                if (number + turn) % 5 == 0:
                    counters.release(reservation)
                    continue
                row = ledger.record("key", number, at_once=turn % 2 == 0)
                await asyncio.sleep(0)
                counters.settle(reservation, number, row)

        async def again(counters: RedisCounters) -> None:
            read = 0
            while read < 100:
                read += await counters.seed("key")
                await asyncio.sleep(0.001)

        both = ((one, ledgers[0]), (two, ledgers[1]))
        jobs = [work(each, ledger, number) for each, ledger in both for number in range(20)]
        await asyncio.gather(again(one), again(two), *jobs)
        for each in (one, two):
            await in_redis(each)
        paid = sum(tokens for ledger in ledgers for _, tokens in ledger.rows)
        assert spent(redis_client) >= paid
        for each, ledger in both:
            ledger.visible = len(ledger.rows)
            await each.seed("key")
        for each in (one, two):
            assert await each.seed("key")
            sums_now = [spent(redis_client, field) for field in ("total", "month", "day", "reserved")]
            assert sums_now == [paid, paid, paid, 0]
        assert redis_client.exists(f"{PREFIX}key:key:P") == 0


async def test_at_a_quotas_edge_no_more_is_spent_than_was_reserved_and_nobody_is_refused_early(
    redis_server: RedisServer, redis_client: redis.Redis
) -> None:
    quota, each_takes = 20_000, 55
    ledger, who = FakeLedger(before=5_000), caller(quotas=Quotas(total=quota))
    under_way, most, early, let, no = 0, 0, 0, 0, 0
    async with (
        counting(redis_server, ledger) as one,
        counting(redis_server, ledger) as two,
        counting(redis_server, ledger) as three,
    ):

        async def request(counters: RedisCounters, number: int) -> None:
            nonlocal under_way, most, early, let, no
            await asyncio.sleep(number * 0.0005)
            outcome = await asked(counters, who, tokens=50)
            paid = 5_000 + sum(tokens for _, tokens in ledger.rows)
            if not isinstance(outcome, Reservation):
                no += 1
                early += paid + under_way < 0.9 * quota
                return
            let += 1
            under_way += 50
            most = max(most, under_way)
            await asyncio.sleep(0.002)
            row = ledger.record("key", each_takes)
            under_way -= 50
            counters.settle(outcome, each_takes, row)

        async def again() -> None:
            while True:
                await two.seed("key")
                await asyncio.sleep(0.02)

        seeding = asyncio.ensure_future(again())
        await asyncio.gather(*(request((one, two, three)[number % 3], number) for number in range(500)))
        seeding.cancel()
    paid = 5_000 + sum(tokens for _, tokens in ledger.rows)
    assert (let > 200, no > 100, early) == (True, True, 0)
    assert 0.9 * quota < paid <= quota + most


# Several processes


async def process(url: str, key: str, *numbers: float) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "tests.store.limited_process",
        url,
        key,
        *map(str, numbers),
        stdout=asyncio.subprocess.PIPE,
    )


async def said(ran: asyncio.subprocess.Process) -> int:
    out, _ = await asyncio.wait_for(ran.communicate(), 60)
    assert ran.returncode == 0
    return int(out)


async def test_three_processes_let_in_as_many_as_the_limit_and_not_one_more(
    redis_server: RedisServer, redis_client: redis.Redis
) -> None:
    started = [await process(redis_server.url, "key", 1000, 0, 600, 20, 120) for _ in range(3)]
    assert sum([await said(each) for each in started]) == 1000


async def test_what_a_process_had_taken_that_died_is_given_back_when_its_time_is_over(
    redis_server: RedisServer, redis_client: redis.Redis
) -> None:
    ledger, who = FakeLedger(), caller(concurrency=3, quotas=Quotas(total=100))
    died = await process(redis_server.url, "key", 0, 3, 5, 1, 1.0)
    assert await said(died) == 3
    async with counting(redis_server, ledger) as counters:
        assert "3 requests at one time" in (await refused(counters, who)).message
        for name in ("one", "two"):
            await let_in(counters, caller(name, quotas=Quotas(total=100)), tokens=1)
            await let_in(counters, caller(name, quotas=Quotas(total=100)), tokens=60, seconds=0.3)
            assert (await refused(counters, caller(name, quotas=Quotas(total=100)), tokens=60)).retry_after == 1
        await asyncio.sleep(0.4)
        await let_in(counters, caller("one", quotas=Quotas(total=100)), tokens=60)
        assert spent(redis_client, "reserved", "one") == 61
        redis_client.delete(f"{PREFIX}key:two:R")  # as if nobody had come until that was forgotten
        await let_in(counters, caller("two", quotas=Quotas(total=100)), tokens=60)

        async def free() -> bool:
            return isinstance(await asked(counters, who), Reservation)

        await until(free, 5)


async def test_processes_are_counted_while_they_are_there(
    redis_server: RedisServer, redis_client: redis.Redis, quick: None
) -> None:
    async with counting(redis_server) as one, counting(redis_server) as two:
        one.start()
        two.start()

        async def both() -> bool:
            return one.processes == two.processes == 2

        await until(both)
        redis_client.zadd(f"{PREFIX}processes", {"dead": time() - 100, "of another time": time() + 100})
        await asyncio.sleep(0.2)
        assert (one.processes, redis_client.zcard(f"{PREFIX}processes")) == (2, 2)


# Redis away


def falling_back(counters: RedisCounters, ledger: FakeLedger | None = None) -> tuple[FallingBack, MemoryCounters]:
    own = MemoryCounters(ledger, lambda: ledger.visible if ledger else 0)
    return FallingBack(counters, own, 1), own


async def test_nobody_there_costs_next_to_nothing_and_limits_hold(caplog: pytest.LogCaptureFixture) -> None:
    async with counting(NOBODY, clock=Clock()) as counters:
        both, _ = falling_back(counters)
        outcomes = [await both.reserve(caller(requests=5), documents=1, tokens=1, seconds=60) for _ in range(20)]
        assert sum(isinstance(outcome, Reservation) for outcome in outcomes) == 5
    assert len(caplog.records) == 1


async def test_a_paused_server_costs_little_at_first_and_then_nothing(
    redis_server: RedisServer, redis_client: redis.Redis, bounds: tuple[float, float]
) -> None:
    clock, who = Clock(), caller(requests=10_000, concurrency=10)
    async with counting(redis_server, clock=clock) as counters:
        both, own = falling_back(counters)

        async def request() -> float:
            started = perf_counter()
            outcome = await both.reserve(who, documents=1, tokens=1, seconds=60)
            both.release(outcome if isinstance(outcome, Reservation) else pytest.fail("refused"))
            return perf_counter() - started

        await request()
        redis_server.pause()
        try:
            first = [await request() for _ in range(FAILURES)]
            afterwards = []
            for _ in range(500):
                clock.now += PAUSE / 100
                afterwards.append(await request())
        finally:
            redis_server.resume()
        assert max(first) < bounds[0]
        assert sorted(afterwards)[494] < bounds[1]
        assert own.count == 1

        async def back() -> bool:
            clock.now += PAUSE
            outcome = await both.reserve(who, documents=1, tokens=1, seconds=60)
            assert isinstance(outcome, Reservation)
            both.release(outcome)
            return outcome.shared

        await until(back)
        await in_redis(counters)

        async def none_left() -> bool:  # what Redis took while nobody heard of it is given back, too
            await in_redis(counters)
            return redis_client.zcard(f"{PREFIX}key:key:R") == 0

        await until(none_left)


@pytest.mark.parametrize("fault", ["paused", "killed", "flushed", "scripts flushed"])
async def test_under_load_every_fault_of_redis_is_lived_through(
    redis_server: RedisServer, redis_client: redis.Redis, quick: None, fault: str, bounds: tuple[float, float]
) -> None:
    """Nobody waits for long, no more than the limit is let in by either side, and Redis is used again when it is back."""
    ledger = FakeLedger()
    who = caller(requests=150, concurrency=100, quotas=Quotas(total=10**6))
    times: list[float] = []
    let: dict[bool, int] = {True: 0, False: 0}
    async with counting(redis_server, ledger) as counters:
        both, own = falling_back(counters, ledger)

        async def one_after_another() -> None:
            for _ in range(40):
                started = perf_counter()
                outcome = await both.reserve(who, documents=1, tokens=10, seconds=60)
                times.append(perf_counter() - started)
                await asyncio.sleep(0.005)
                if isinstance(outcome, Reservation):
                    let[outcome.shared] += 1
                    both.settle(outcome, 7, ledger.record("key", 7))

        load = asyncio.gather(*(one_after_another() for _ in range(10)))
        await asyncio.sleep(0.03)
        assert let[True]
        before = let[True]
        if fault == "paused":
            redis_server.pause()
        elif fault == "killed":
            redis_server.kill()
        elif fault == "flushed":
            redis_client.flushall()
        else:
            redis_client.script_flush()
        try:
            await load
        finally:
            if fault == "paused":
                redis_server.resume()
            elif fault == "killed":
                redis_server.start()
        assert max(times) < sum(bounds)
        assert let[False] == (150 if fault in ("paused", "killed") else 0)
        assert let[True] <= {"flushed": 150 + before + 20, "killed": 150}.get(fault, 150)

        async def back() -> bool:
            outcome = await both.reserve(caller("other", requests=10**6), documents=1, tokens=1, seconds=60)
            assert isinstance(outcome, Reservation)
            both.release(outcome)
            return outcome.shared

        await until(back)
        await in_redis(counters)
        await until(lambda: counters.seed("key"))
        assert spent(redis_client) == sum(tokens for _, tokens in ledger.rows)
        own.close()


async def test_what_another_program_has_put_there_is_nobodys_limit(
    redis_server: RedisServer, redis_client: redis.Redis
) -> None:
    redis_client.set(f"{PREFIX}key:key:W", "garbage")
    async with counting(redis_server) as counters:
        both, _ = falling_back(counters)
        for who in (caller(requests=1), caller("other", requests=1)):
            outcomes = [await both.reserve(who, documents=1, tokens=1, seconds=60) for _ in range(2)]
            assert [isinstance(outcome, Reservation) for outcome in outcomes] == [True, False]


async def test_what_nobody_waits_for_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    assert redis_lane.MOST_LATER <= 10_000
    async with counting(NOBODY, clock=Clock()) as counters:
        for _ in range(redis_lane.MOST_LATER + 10):
            counters._lane.put(Script("return 1"), [], [])
        await asyncio.sleep(0.01)
        assert counters._lane.waiting <= redis_lane.MOST_LATER


async def test_a_caller_that_goes_away_while_it_is_asked_leaves_nothing_reserved(
    redis_server: RedisServer, redis_client: redis.Redis
) -> None:
    who = caller(concurrency=1000)
    async with counting(redis_server) as counters:
        await settle(counters, await let_in(counters, who), 1)
        for turn in range(20):
            tasks = [asyncio.ensure_future(asked(counters, who)) for _ in range(20)]
            await asyncio.sleep(0.0005 * (turn % 5))
            for task in tasks:
                task.cancel()
            for outcome in await asyncio.gather(*tasks, return_exceptions=True):
                if isinstance(outcome, Reservation):
                    counters.release(outcome)
        await in_redis(counters)
        assert redis_client.zcard(f"{PREFIX}key:key:R") == 0


@pytest.mark.parametrize("url", ["redis://:hush-hush@host/0?no_such=1"])
def test_a_url_that_cannot_be_used_is_a_setting_that_is_wrong_and_shows_no_password(url: str) -> None:
    with pytest.raises(BadSettings, match=r"server\.redis") as caught:
        RedisCounters(url, None, lambda: 0)
    assert "hush" not in repr(caught.value) + str(caught.value.__cause__)
