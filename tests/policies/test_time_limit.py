from __future__ import annotations

import asyncio
from time import monotonic

import pytest

from rerankd.policies.time_limit import TimeLimit


async def slept(limit: float, seconds: float = 5.0) -> None:
    with TimeLimit(limit):
        await asyncio.sleep(seconds)


async def test_what_waits_too_long_is_cancelled() -> None:
    started = monotonic()
    with pytest.raises(TimeoutError) as caught:
        await slept(0.02)
    assert isinstance(caught.value.__cause__, asyncio.CancelledError)
    assert monotonic() - started < 1
    task = asyncio.current_task()
    assert task is not None
    assert task.cancelling() == 0


async def test_what_is_done_in_time_is_left_alone() -> None:
    with TimeLimit(0.02):
        pass
    await asyncio.sleep(0.04)


@pytest.mark.parametrize("limit", [0.0, -1.0])
async def test_no_time_at_all_ends_at_the_first_wait(limit: float) -> None:
    with pytest.raises(TimeoutError):
        await slept(limit)


async def test_an_error_is_not_hidden() -> None:
    async def failing() -> None:
        with TimeLimit(0.01):
            try:
                await asyncio.sleep(5)
            finally:
                raise ValueError("own")

    with pytest.raises(ValueError, match="own"):
        await failing()


@pytest.mark.parametrize("limit", [5.0, 0.0])  # with 0 both come at once
async def test_a_cancellation_from_outside_remains_one(limit: float) -> None:
    task = asyncio.create_task(slept(limit))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_limits_within_each_other_end_what_each_is_for() -> None:
    async def outer() -> None:
        with TimeLimit(0.05):
            with pytest.raises(TimeoutError):
                await slept(0.01)
            await asyncio.sleep(5)

    with pytest.raises(TimeoutError):
        await outer()


def test_there_is_none_outside_of_a_task() -> None:
    with pytest.raises(RuntimeError), TimeLimit(1.0):
        pass
