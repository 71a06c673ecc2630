from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from time import monotonic

import pytest

from rerankd.errors import (
    BadRequest,
    DeadlineExceeded,
    EngineError,
    Overloaded,
    RateLimited,
    RerankError,
    TooLarge,
    UpstreamBusy,
    UpstreamError,
    UpstreamMalformed,
    UpstreamRefused,
    UpstreamUnavailable,
    UpstreamUnsuited,
)
from rerankd.policies.fallback import Choice, Fallback
from rerankd.policies.retry_budget import SECONDS, RetryBudget
from rerankd.types import Call, RerankRequest, RerankResponse
from tests.conftest import FakeReranker, request_for
from tests.policies.upstream import Clock, Upstream, new_call, seeded

DRAWS = 10_000
SECRET = "what the upstream said"
AWAY = UpstreamUnavailable(SECRET)
OPEN = UpstreamUnavailable(SECRET, retry_after=8)
BUSY = UpstreamBusy(SECRET, retry_after=40)
SAID_NOTHING = UpstreamBusy(SECRET)
REFUSED = UpstreamRefused(SECRET)
MALFORMED = UpstreamMalformed(SECRET)
UNSUITED = UpstreamUnsuited(SECRET)
FULL = Overloaded(SECRET, retry_after=3)
BROKEN = EngineError(SECRET)


def choices(*errors: RerankError | None) -> tuple[list[Upstream], list[Choice]]:
    """One choice for each error, asked in this order; None answers."""
    upstreams = [Upstream(Clock(), [error] * 10) for error in errors]
    return upstreams, [Choice(f"c{place}", -place, 1, upstream) for place, upstream in enumerate(upstreams)]


async def error_of(fallback: Fallback) -> RerankError:
    with pytest.raises(RerankError) as caught:
        await fallback.rerank(request_for(), new_call())
    assert SECRET not in caught.value.message
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__
    return caught.value


@pytest.mark.parametrize("error", [AWAY, BUSY, REFUSED, MALFORMED, UNSUITED, FULL, BROKEN, UpstreamError(SECRET)])
async def test_the_next_is_asked_where_one_has_failed(error: RerankError) -> None:
    upstreams, listed = choices(error, None, None)
    answer = await Fallback(listed).rerank(request_for(), new_call())
    assert answer == await FakeReranker().rerank(request_for(), new_call())
    assert [upstream.calls for upstream in upstreams] == [1, 1, 0]


@pytest.mark.parametrize("error", [BadRequest("b"), TooLarge("t"), RateLimited("r"), DeadlineExceeded("d")])
async def test_what_is_not_a_channels_fault_ends_it_at_once(error: RerankError) -> None:
    upstreams, listed = choices(error, None)
    with pytest.raises(type(error)) as caught:
        await Fallback(listed).rerank(request_for(), new_call())
    assert caught.value is error
    assert upstreams[1].calls == 0


@pytest.mark.parametrize(
    ("errors", "kind", "wait"),
    [
        ([BUSY], Overloaded, 40),
        ([BUSY, FULL], Overloaded, 3),
        ([BUSY, OPEN], Overloaded, 8),
        ([OPEN, OPEN], Overloaded, 8),
        ([BUSY, SAID_NOTHING], Overloaded, 5),
        ([UpstreamBusy(SECRET, retry_after=10**9)], Overloaded, 3600),
        ([Overloaded(SECRET)], Overloaded, 1),
        ([AWAY], UpstreamError, None),
        ([AWAY, BUSY], UpstreamError, 40),
        ([REFUSED, BUSY, OPEN], UpstreamError, 8),
        ([MALFORMED, UNSUITED, REFUSED, AWAY], UpstreamError, None),
        ([AWAY, BROKEN], UpstreamError, None),
        ([BROKEN, BUSY], UpstreamError, 40),
        ([], UpstreamError, None),
    ],
)
async def test_what_the_caller_gets_when_all_have_failed(
    errors: Sequence[RerankError], kind: type[RerankError], wait: float | None
) -> None:
    error = await error_of(Fallback(choices(*errors)[1]))
    assert type(error) is kind
    assert error.retry_after == wait


async def test_models_that_broke_and_nothing_else_are_our_bug_and_not_an_upstreams() -> None:
    with pytest.raises(EngineError) as caught:
        await Fallback(choices(BROKEN, BROKEN)[1]).rerank(request_for(), new_call())
    assert caught.value is BROKEN


async def test_the_error_says_in_our_words_what_failed() -> None:
    error = await error_of(Fallback(choices(AWAY, REFUSED, AWAY, FULL)[1]))
    assert (
        error.message == "No upstream could answer: one could not be reached; one refused our key; one had no capacity."
    )


async def test_no_further_one_is_asked_when_the_time_is_up() -> None:
    upstreams, listed = choices(AWAY, None)
    with pytest.raises(DeadlineExceeded):
        await Fallback(listed).rerank(request_for(), new_call(monotonic() - 1))
    assert [upstream.calls for upstream in upstreams] == [0, 0]


async def test_a_last_failure_after_the_deadline_is_the_deadlines() -> None:
    class Slow:
        async def rerank(self, request: RerankRequest, call: Call) -> RerankResponse:
            while monotonic() < deadline:
                pass
            raise AWAY

    deadline = monotonic() + 0.01
    with pytest.raises(DeadlineExceeded):
        await Fallback([Choice("slow", 0, 1, Slow())]).rerank(request_for(), new_call(deadline))


async def test_equals_are_asked_in_proportion_to_their_weights_and_others_not_at_all() -> None:
    weights = {"a": 6.0, "b": 3.0, "c": 1.0}
    listed = [Choice(name, 5, weight, FakeReranker(name)) for name, weight in weights.items()]
    listed.insert(0, Choice("low", 4, 1000, FakeReranker("low")))
    fallback = Fallback(listed, chance=seeded(11))
    drawn = Counter([(await fallback.rerank(request_for(), new_call())).model for _ in range(DRAWS)])
    assert set(drawn) == set(weights)
    for name, weight in weights.items():
        assert abs(drawn[name] / DRAWS - weight / sum(weights.values())) <= 0.03


async def test_where_the_first_fails_the_others_are_asked_in_proportion_to_their_weights_too() -> None:
    listed = [Choice("dead", 5, 1e9, Upstream(Clock(), lambda: AWAY))]
    listed += [Choice("b", 5, 3, FakeReranker("b")), Choice("c", 5, 1, FakeReranker("c"))]
    fallback = Fallback(listed, chance=seeded(11))
    drawn = Counter([(await fallback.rerank(request_for(), new_call())).model for _ in range(DRAWS)])
    assert abs(drawn["b"] / DRAWS - 0.75) <= 0.03


async def test_with_a_seed_the_order_is_the_same_each_time() -> None:
    async def drawn() -> list[str]:
        listed = [Choice(name, 0, 1, FakeReranker(name)) for name in "abc"]
        fallback = Fallback(listed, chance=seeded(3))
        return [(await fallback.rerank(request_for(), new_call())).model for _ in range(50)]

    assert await drawn() == await drawn()


async def test_when_the_budget_is_nearly_spent_requests_begin_with_what_has_not_failed() -> None:
    clock = Clock()
    budget = RetryBudget(clock=clock)
    upstreams, listed = choices(AWAY, None)
    fallback = Fallback(listed, budget, clock=clock)
    await fallback.rerank(request_for(), new_call())
    while not budget.low:
        budget.onwards()
    for _ in range(5):
        await fallback.rerank(request_for(), new_call())
    assert [upstream.calls for upstream in upstreams] == [1, 6]
    clock.now += SECONDS
    await fallback.rerank(request_for(), new_call())
    assert [upstream.calls for upstream in upstreams] == [2, 7]
