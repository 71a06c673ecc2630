from __future__ import annotations

import asyncio

import pytest

from rerankd.errors import (
    BadRequest,
    ClientError,
    DeadlineExceeded,
    RerankError,
    TooLarge,
    UpstreamBusy,
    UpstreamRefused,
    UpstreamUnavailable,
)
from rerankd.policies.breaker import FAILURES_IN_A_ROW, Breaker
from rerankd.policies.guarded import Guarded
from rerankd.types import Call, RerankRequest, RerankResponse
from tests.conftest import FakeReranker, request_for
from tests.policies.upstream import Clock, Upstream, new_call

AWAY = UpstreamUnavailable("It is away.")
CALLERS = 50


class Waiting:
    """Answers, or fails, when it is told to."""

    def __init__(self) -> None:
        self.calls = 0
        self.go = asyncio.Event()
        self.error: RerankError | None = None

    async def rerank(self, request: RerankRequest, call: Call) -> RerankResponse:
        self.calls += 1
        await self.go.wait()
        if self.error is not None:
            raise self.error
        return await FakeReranker().rerank(request, call)


def opened(clock: Clock) -> Breaker:
    """A breaker that is half-open now."""
    breaker = Breaker(clock=clock)
    for _ in range(FAILURES_IN_A_ROW):
        breaker.failed(breaker.admit(), AWAY)
    clock.now += 10
    return breaker


async def test_an_answer_is_passed_on_as_it_is(call: Call) -> None:
    inner = FakeReranker()
    breaker = Breaker()
    assert await Guarded(inner, breaker).rerank(request_for(), call) == await inner.rerank(request_for(), call)
    assert breaker.state.calls == 1


async def test_what_is_open_is_not_called() -> None:
    clock = Clock()
    inner = Upstream(clock, [AWAY] * FAILURES_IN_A_ROW)
    guarded = Guarded(inner, Breaker(clock=clock))
    for _ in range(FAILURES_IN_A_ROW + 20):
        with pytest.raises(UpstreamUnavailable):
            await guarded.rerank(request_for(), new_call())
    assert inner.calls == FAILURES_IN_A_ROW


@pytest.mark.parametrize("error", [None, AWAY, UpstreamBusy("Enough."), UpstreamRefused("No."), BadRequest("Bad.")])
async def test_of_fifty_callers_exactly_one_is_the_probe(error: RerankError | None) -> None:
    inner = Waiting()
    inner.error = error
    guarded = Guarded(inner, opened(Clock()))
    callers = [asyncio.create_task(guarded.rerank(request_for(), new_call())) for _ in range(CALLERS)]
    done, pending = await asyncio.wait(callers, timeout=0.05)
    assert (inner.calls, len(done), len(pending)) == (1, CALLERS - 1, 1)
    assert all(isinstance(caller.exception(), UpstreamUnavailable) for caller in done)
    inner.go.set()
    outcome = (await asyncio.gather(*pending, return_exceptions=True))[0]
    assert outcome is error if error else isinstance(outcome, RerankResponse)
    assert inner.calls == 1


@pytest.mark.parametrize("error", [ClientError("c"), BadRequest("b"), TooLarge("t"), DeadlineExceeded("d")])
async def test_the_callers_mistakes_and_deadlines_never_count(error: RerankError) -> None:
    breaker = Breaker()
    guarded = Guarded(Upstream(Clock(), [error] * 100), breaker)
    for _ in range(100):
        with pytest.raises(type(error)):
            await guarded.rerank(request_for(), new_call())
    assert breaker.closed
    assert breaker.state.calls == 0


async def test_cancelled_calls_never_count_and_free_the_probe() -> None:
    clock = Clock()
    breaker = opened(clock)
    inner = Waiting()
    guarded = Guarded(inner, breaker)
    for turn in range(20):
        probe = asyncio.create_task(guarded.rerank(request_for(), new_call()))
        await asyncio.sleep(0)
        assert inner.calls == turn + 1
        probe.cancel()
        with pytest.raises(asyncio.CancelledError):
            await probe
    assert breaker.state.status == "half-open"
    inner.go.set()
    await guarded.rerank(request_for(), new_call())
    assert breaker.closed
    assert breaker.state.calls == 1


async def test_a_bug_inside_frees_the_probe_as_well() -> None:
    breaker = opened(Clock())
    with pytest.raises(ZeroDivisionError):
        await Guarded(Upstream(Clock(), [ZeroDivisionError()]), breaker).rerank(request_for(), new_call())
    breaker.admit()
