from __future__ import annotations

import asyncio
from time import monotonic

import pytest

from rerankd.errors import DeadlineExceeded, UpstreamError
from rerankd.policies.deadlined import Deadlined
from rerankd.types import Call, RerankRequest, RerankResponse
from tests.conftest import FakeReranker, request_for

FOREVER = 5


async def test_an_answer_in_time_is_passed_on_as_it_is(call: Call) -> None:
    inner = FakeReranker()
    in_time = Call("the-request", deadline=monotonic() + FOREVER)
    assert await Deadlined(inner).rerank(request_for(), in_time) == await inner.rerank(request_for(), call)


async def test_work_that_outlasts_the_deadline_is_cancelled_before_the_caller_hears_of_it() -> None:
    inner = FakeReranker(seconds=FOREVER)
    with pytest.raises(DeadlineExceeded):
        await Deadlined(inner).rerank(request_for(), Call("the-request", deadline=monotonic() + 0.01))
    assert inner.cancelled


async def test_a_deadline_that_has_passed_already_lets_no_work_be_done() -> None:
    inner = FakeReranker(seconds=FOREVER)
    with pytest.raises(DeadlineExceeded):
        await Deadlined(inner).rerank(request_for(), Call("the-request", deadline=monotonic() - 1))


async def test_without_a_deadline_work_goes_on_until_the_caller_goes_away(call: Call) -> None:
    inner = FakeReranker(seconds=FOREVER)
    work = asyncio.create_task(Deadlined(inner).rerank(request_for(), call))
    await asyncio.sleep(0.01)
    assert not work.done()
    work.cancel()
    with pytest.raises(asyncio.CancelledError):
        await work
    assert inner.cancelled


async def test_another_error_stays_what_it_is() -> None:
    class Failing:
        async def rerank(self, request: RerankRequest, call: Call) -> RerankResponse:
            raise UpstreamError("It failed.")

    with pytest.raises(UpstreamError, match="It failed"):
        await Deadlined(Failing()).rerank(request_for(), Call("the-request", deadline=monotonic() + FOREVER))
