"""Breaker, retries and fallback together, as they stand around channels: what an outage and a brown-out cost."""

from __future__ import annotations

import asyncio
from contextlib import nullcontext
from statistics import median
from time import perf_counter

import pytest

from rerankd.errors import Overloaded, RerankError, UpstreamBusy, UpstreamUnavailable
from rerankd.policies.breaker import FAILURES_IN_A_ROW, Breaker
from rerankd.policies.fallback import Choice, Fallback
from rerankd.policies.retry_budget import RetryBudget
from tests.conftest import request_for
from tests.policies.upstream import Clock, Outcome, Upstream, channel, new_call, seeded

AWAY = UpstreamUnavailable("It is away.")
REQUESTS = 2000
A_SECOND = 20


def flaky(share: float, seed: int, clock: Clock) -> Upstream:
    chance = seeded(seed)

    def outcome() -> Outcome:
        return AWAY if chance.random() < share else None

    return Upstream(clock, outcome)


def gateway(*upstreams: Upstream, clock: Clock) -> Fallback:
    """The first upstream has the highest priority."""
    budget = RetryBudget(clock=clock)
    listed = [
        Choice(f"c{place}", -place, 1, channel(upstream, clock, budget)) for place, upstream in enumerate(upstreams)
    ]
    return Fallback(listed, budget, chance=seeded(1), clock=clock)


async def failures(fallback: Fallback, clock: Clock, *, at_once: int = 1) -> int:
    """How many of the requests got no answer."""
    failed = 0
    for _ in range(REQUESTS // at_once):
        work = (fallback.rerank(request_for(), new_call()) for _ in range(at_once))
        outcomes = await asyncio.gather(*work, return_exceptions=True)
        failed += sum(isinstance(outcome, RerankError) for outcome in outcomes)
        clock.now += at_once / A_SECOND
    return failed


@pytest.mark.parametrize("at_once", [1, 20])
@pytest.mark.parametrize("shares", [[0.3], [0.3, 0.3], [0.3, 0.3, 0.3], [0.3, 0.0], [0.45, 0.3]])
async def test_errors_are_not_multiplied(shares: list[float], at_once: int) -> None:
    clock = Clock()
    upstreams = [flaky(share, seed, clock) for seed, share in enumerate(shares)]
    await failures(gateway(*upstreams, clock=clock), clock, at_once=at_once)
    assert sum(upstream.calls for upstream in upstreams) <= 1.1 * REQUESTS


@pytest.mark.parametrize("at_once", [1, 20])
async def test_a_channel_that_fails_at_times_costs_hardly_an_answer_where_another_is_well(at_once: int) -> None:
    clock = Clock()
    bad, good = flaky(0.3, 1, clock), Upstream(clock)
    assert await failures(gateway(bad, good, clock=clock), clock, at_once=at_once) <= REQUESTS / 100
    assert bad.calls >= REQUESTS / 20  # it is still asked, as the order says


async def test_a_dead_channel_costs_no_answer_and_once_its_breaker_is_open_no_call() -> None:
    clock = Clock()
    dead, good = Upstream(clock, lambda: AWAY), Upstream(clock)
    assert await failures(gateway(dead, good, clock=clock), clock) == 0
    assert good.calls == REQUESTS
    seconds = REQUESTS / A_SECOND
    assert dead.calls <= 2 * FAILURES_IN_A_ROW + seconds / 10


async def test_fifty_requests_that_find_a_dead_channel_at_once_are_all_answered_by_the_next() -> None:
    clock = Clock()
    dead, good = Upstream(clock, lambda: AWAY), Upstream(clock)
    fallback = gateway(dead, good, clock=clock)
    await asyncio.gather(*(fallback.rerank(request_for(), new_call()) for _ in range(50)))
    assert good.calls == 50


async def test_a_channel_whose_breaker_is_open_takes_less_than_a_millisecond() -> None:
    dead, good = Breaker(), Upstream(Clock())
    for _ in range(FAILURES_IN_A_ROW):
        dead.failed(dead.admit(), AWAY)
    budget = RetryBudget()
    never = Upstream(Clock(), lambda: AWAY)
    fallback = Fallback(
        [
            Choice("dead", 1, 1, channel(never, Clock(), budget, dead)),
            Choice("good", 0, 1, channel(good, Clock(), budget)),
        ],
        budget,
    )
    took = []
    for _ in range(200):
        began = perf_counter()
        await fallback.rerank(request_for(), new_call())
        took.append(perf_counter() - began)
    assert never.calls == 0
    assert median(took) <= 0.001


async def test_where_everything_is_away_callers_hear_it_at_once_and_one_probe_in_ten_seconds_goes_out() -> None:
    clock = Clock()
    dead = Upstream(clock, lambda: AWAY)
    fallback = gateway(dead, clock=clock)
    await failures(fallback, clock)
    before = dead.calls
    for _ in range(600):
        clock.now += 0.1
        probes = dead.calls
        with pytest.raises(RerankError) as caught:
            await fallback.rerank(request_for(), new_call())
        if dead.calls == probes:
            assert type(caught.value) is Overloaded
            assert caught.value.retry_after
    assert 1 <= dead.calls - before <= 6


async def test_a_request_goes_out_three_times_at_most() -> None:
    clock = Clock()
    dead = [Upstream(clock, lambda: AWAY) for _ in range(4)]
    call = new_call()
    with pytest.raises(RerankError):
        await gateway(*dead, clock=clock).rerank(request_for(), call)
    assert call.notes.attempts == 3
    assert [upstream.calls for upstream in dead] == [1, 1, 1, 0]


@pytest.mark.parametrize(("dead", "well", "calls"), [(1, 0, [2]), (2, 0, [2, 1]), (2, 1, [1, 1, 1])])
async def test_a_second_call_to_a_channel_is_never_the_one_that_another_would_have_had(
    dead: int, well: int, calls: list[int]
) -> None:
    clock = Clock()
    listed = [Upstream(clock, lambda: AWAY) for _ in range(dead)] + [Upstream(clock) for _ in range(well)]
    with nullcontext() if well else pytest.raises(RerankError):
        await gateway(*listed, clock=clock).rerank(request_for(), new_call())
    assert [upstream.calls for upstream in listed] == calls


async def test_no_call_is_left_for_a_channel_that_would_not_be_let_through() -> None:
    clock = Clock()
    budget = RetryBudget(clock=clock)
    flaky_once, *resting = Upstream(clock, [AWAY]), Upstream(clock), Upstream(clock)
    choices = [Choice("c0", 9, 1, channel(flaky_once, clock, budget))]
    choices += [Choice(f"c{n}", 0, 1, channel(each, clock, budget), lambda: False) for n, each in enumerate(resting, 1)]
    await Fallback(choices, budget, clock=clock).rerank(request_for(), new_call())
    assert flaky_once.calls == 2
    assert [each.calls for each in resting] == [0, 0]


@pytest.mark.parametrize(("said", "rest"), [(1.5, 1.5), (20, 20), (3600, 3600), (None, 5)])
async def test_no_call_goes_out_before_the_time_that_the_upstream_named(said: float | None, rest: float) -> None:
    clock = Clock()
    busy = Upstream(clock, [UpstreamBusy("Enough.", retry_after=said)])
    fallback = gateway(busy, Upstream(clock), clock=clock)
    await fallback.rerank(request_for(), new_call())
    while busy.calls < 2:
        clock.now += 0.25
        await fallback.rerank(request_for(), new_call())
    assert rest <= busy.called_at[1] - busy.called_at[0] < rest + 1


async def test_after_an_outage_all_requests_are_back_within_thirty_seconds() -> None:
    clock = Clock()
    began = clock.now
    first, second = Upstream(clock, lambda: AWAY if clock.now < began + 20 else None), Upstream(clock)
    fallback = gateway(first, second, clock=clock)
    while clock.now < began + 50:
        await fallback.rerank(request_for(), new_call())
        clock.now += 0.1
    before = second.calls
    for _ in range(100):
        await fallback.rerank(request_for(), new_call())
    assert second.calls == before
