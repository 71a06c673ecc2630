from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
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


class Slow:
    """Ends as it is told to when it is cancelled."""

    def __init__(self, ending: Callable[[], object]) -> None:
        self._ending = ending

    async def rerank(self, request: RerankRequest, call: Call) -> RerankResponse:
        try:
            await asyncio.sleep(FOREVER)
        except asyncio.CancelledError:
            self._ending()
            raise
        raise AssertionError


def soon() -> Call:
    return Call("the-request", deadline=monotonic() + 0.01)


def the_task() -> asyncio.Task[object]:
    task = asyncio.current_task()
    assert task is not None
    return task


async def test_a_task_whose_deadline_has_passed_is_none_that_was_cancelled_and_goes_on() -> None:
    with pytest.raises(DeadlineExceeded) as caught:
        await Deadlined(FakeReranker(seconds=FOREVER)).rerank(request_for(), soon())
    assert the_task().cancelling() == 0
    assert caught.value.__suppress_context__
    await asyncio.sleep(0)


async def test_who_goes_away_while_the_work_ends_at_its_deadline_is_cancelled() -> None:
    task = asyncio.create_task(Deadlined(Slow(lambda: task.cancel())).rerank(request_for(), soon()))
    with pytest.raises(asyncio.CancelledError):
        await task
    assert task.cancelling() == 1


async def test_an_answer_that_comes_in_spite_of_the_deadline_is_one_and_so_is_an_error(call: Call) -> None:
    class Stubborn(FakeReranker):
        async def rerank(self, request: RerankRequest, call: Call) -> RerankResponse:
            with suppress(asyncio.CancelledError):
                await asyncio.sleep(FOREVER)
            return await super().rerank(request, call)

    def fail() -> None:
        raise UpstreamError("It failed.")

    assert (await Deadlined(Stubborn()).rerank(request_for(), soon())).model == "fake"
    assert the_task().cancelling() == 0
    with pytest.raises(UpstreamError, match="It failed"):
        await Deadlined(Slow(fail)).rerank(request_for(), soon())
    assert the_task().cancelling() == 0


async def test_the_nearer_of_two_deadlines_is_told_by_whose_it_is() -> None:
    inner = Deadlined(FakeReranker(seconds=FOREVER))

    class Patient:
        async def rerank(self, request: RerankRequest, call: Call) -> RerankResponse:
            with pytest.raises(DeadlineExceeded):
                await inner.rerank(request, soon())
            return await FakeReranker().rerank(request, call)

    far = Call("the-request", deadline=monotonic() + FOREVER)
    assert (await Deadlined(Patient()).rerank(request_for(), far)).model == "fake"


async def test_a_task_that_was_cancelled_before_may_still_have_a_deadline() -> None:
    async def cleaning() -> None:
        try:
            await asyncio.sleep(FOREVER)
        except asyncio.CancelledError:
            with pytest.raises(DeadlineExceeded):
                await Deadlined(FakeReranker(seconds=FOREVER)).rerank(request_for(), soon())
            raise

    task = asyncio.create_task(cleaning())
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert task.cancelling() == 1


async def test_an_answer_leaves_no_timer_behind() -> None:
    task = the_task()
    await Deadlined(FakeReranker()).rerank(request_for(), soon())
    await asyncio.sleep(0.03)
    assert task.cancelling() == 0
