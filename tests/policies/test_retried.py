from __future__ import annotations

import asyncio
from time import monotonic

import pytest

from rerankd.errors import (
    BadRequest,
    DeadlineExceeded,
    EngineError,
    Overloaded,
    RerankError,
    UpstreamBusy,
    UpstreamError,
    UpstreamMalformed,
    UpstreamRefused,
    UpstreamUnavailable,
    UpstreamUnsuited,
)
from rerankd.policies.breaker import FAILURES_IN_A_ROW, Breaker
from rerankd.policies.retried import JITTER, Retried
from rerankd.policies.retry_budget import LEAST_AGAIN, LEAST_ONWARDS, MOST_CALLS, RetryBudget
from tests.conftest import request_for
from tests.policies.upstream import Clock, Upstream, channel, new_call, seeded

AWAY = UpstreamUnavailable("It is away.")


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def breaker(clock: Clock) -> Breaker:
    return Breaker(clock=clock)


@pytest.fixture
def budget(clock: Clock) -> RetryBudget:
    return RetryBudget(clock=clock)


def retried(upstream: Upstream, clock: Clock, budget: RetryBudget, breaker: Breaker) -> Retried:
    return Retried(upstream, budget, breaker, chance=seeded(7), sleep=clock.sleep)


async def test_an_upstream_that_was_away_is_asked_once_more(
    clock: Clock, budget: RetryBudget, breaker: Breaker
) -> None:
    upstream = Upstream(clock, [AWAY])
    await retried(upstream, clock, budget, breaker).rerank(request_for(), new_call())
    assert upstream.calls == 2
    assert len(clock.pauses) == 1


async def test_and_not_twice_more(clock: Clock, budget: RetryBudget, breaker: Breaker) -> None:
    last = UpstreamUnavailable("It is still away.")
    upstream = Upstream(clock, [AWAY, last])
    with pytest.raises(UpstreamUnavailable) as caught:
        await retried(upstream, clock, budget, breaker).rerank(request_for(), new_call())
    assert caught.value is last
    assert upstream.calls == 2


@pytest.mark.parametrize(
    "error",
    [
        BadRequest("b"),
        DeadlineExceeded("d"),
        EngineError("e"),
        UpstreamError("u"),
        UpstreamMalformed("m"),
        UpstreamRefused("r"),
        UpstreamUnsuited("s"),
        UpstreamBusy("says nothing, which is 5 seconds"),
        UpstreamBusy("too long", retry_after=2.1),
        UpstreamBusy("too long", retry_after=3600),
        UpstreamUnavailable("too long", retry_after=3600),
    ],
)
async def test_what_would_not_be_mended_is_not_repeated(
    error: RerankError, clock: Clock, budget: RetryBudget, breaker: Breaker
) -> None:
    upstream = Upstream(clock, [error])
    with pytest.raises(type(error)) as caught:
        await retried(upstream, clock, budget, breaker).rerank(request_for(), new_call())
    assert caught.value is error
    assert (upstream.calls, clock.pauses) == (1, [])


async def test_the_pauses_are_spread_over_their_range(clock: Clock, breaker: Breaker) -> None:
    for _ in range(200):
        one = Retried(Upstream(clock, [AWAY]), RetryBudget(), breaker, sleep=clock.sleep)
        await one.rerank(request_for(), new_call())
    shortest, longest = JITTER
    assert shortest <= min(clock.pauses) < shortest + 0.02
    assert longest - 0.02 < max(clock.pauses) <= longest


@pytest.mark.parametrize(
    "error", [UpstreamBusy("Soon.", retry_after=1.5), UpstreamUnavailable("Soon.", retry_after=1.5)]
)
async def test_a_short_rest_is_waited_for_and_binds_everybody_at_once(
    error: UpstreamError, clock: Clock, budget: RetryBudget, breaker: Breaker
) -> None:
    upstream = Upstream(clock, [error])
    seen: list[str] = []

    async def sleep(seconds: float) -> None:
        seen.append(breaker.state.status)
        clock.now += seconds

    await Retried(upstream, budget, breaker, sleep=sleep).rerank(request_for(), new_call())
    assert seen == ["resting"]
    assert upstream.called_at[1] - upstream.called_at[0] >= 1.5 + JITTER[0]


async def test_a_rest_that_became_longer_meanwhile_is_kept(clock: Clock, budget: RetryBudget, breaker: Breaker) -> None:
    upstream = Upstream(clock, [UpstreamBusy("Soon.", retry_after=1)])

    async def sleep(seconds: float) -> None:
        breaker.rest(3600)
        clock.now += seconds

    with pytest.raises(UpstreamBusy):
        await Retried(upstream, budget, breaker, sleep=sleep).rerank(request_for(), new_call())
    assert upstream.calls == 1


@pytest.mark.parametrize(("left", "error"), [(JITTER[0] / 2, AWAY), (1.5, UpstreamBusy("Soon.", retry_after=1.5))])
async def test_nothing_is_repeated_beyond_the_deadline(
    left: float, error: UpstreamError, clock: Clock, budget: RetryBudget, breaker: Breaker
) -> None:
    upstream = Upstream(clock, [error])
    with pytest.raises(type(error)):
        await retried(upstream, clock, budget, breaker).rerank(request_for(), new_call(monotonic() + left))
    assert (upstream.calls, clock.pauses) == (1, [])


async def test_within_the_deadline_it_is(clock: Clock, budget: RetryBudget, breaker: Breaker) -> None:
    upstream = Upstream(clock, [AWAY])
    await retried(upstream, clock, budget, breaker).rerank(request_for(), new_call(monotonic() + 5))
    assert upstream.calls == 2


async def test_repeating_stops_where_the_budget_is_spent(clock: Clock, budget: RetryBudget, breaker: Breaker) -> None:
    upstream = Upstream(clock, [AWAY] * 100)
    for _ in range(LEAST_AGAIN + 5):
        with pytest.raises(UpstreamUnavailable):
            await retried(upstream, clock, budget, breaker).rerank(request_for(), new_call())
    assert upstream.calls == LEAST_AGAIN + 5 + LEAST_AGAIN


async def test_a_request_that_failed_elsewhere_is_paid_from_the_budget_and_refused_without_a_call(
    clock: Clock, budget: RetryBudget, breaker: Breaker
) -> None:
    upstream = Upstream(clock)
    one = retried(upstream, clock, budget, breaker)
    for _ in range(LEAST_ONWARDS):
        call = new_call()
        call.notes.attempts = 1
        await one.rerank(request_for(), call)
    call = new_call()
    call.notes.attempts = 1
    with pytest.raises(Overloaded) as caught:
        await one.rerank(request_for(), call)
    assert caught.value.retry_after
    assert upstream.calls == LEAST_ONWARDS
    await one.rerank(request_for(), new_call())  # a first call is always allowed


async def test_a_request_has_three_calls_at_most_wherever_they_went(
    clock: Clock, budget: RetryBudget, breaker: Breaker
) -> None:
    upstream = Upstream(clock, [AWAY] * 100)
    call = new_call()
    call.notes.attempts = 2
    with pytest.raises(UpstreamUnavailable):
        await retried(upstream, clock, budget, breaker).rerank(request_for(), call)
    assert call.notes.attempts == MOST_CALLS
    with pytest.raises(Overloaded):
        await retried(upstream, clock, budget, breaker).rerank(request_for(), call)
    assert upstream.calls == 1


async def test_a_probe_is_one_call_and_not_two(clock: Clock, budget: RetryBudget, breaker: Breaker) -> None:
    for _ in range(FAILURES_IN_A_ROW):
        breaker.failed(breaker.admit(), AWAY)
    clock.now += 10
    upstream = Upstream(clock, [AWAY, AWAY])
    with pytest.raises(UpstreamUnavailable):
        await channel(upstream, clock, budget, breaker).rerank(request_for(), new_call())
    assert upstream.calls == 1
    assert breaker.state.status == "open"


async def test_a_cancelled_pause_makes_no_call(clock: Clock, budget: RetryBudget, breaker: Breaker) -> None:
    upstream = Upstream(clock, [AWAY])
    work = asyncio.create_task(Retried(upstream, budget, breaker).rerank(request_for(), new_call()))
    await asyncio.sleep(0.01)
    work.cancel()
    with pytest.raises(asyncio.CancelledError):
        await work
    assert upstream.calls == 1
