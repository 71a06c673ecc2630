from __future__ import annotations

import asyncio
import threading
from functools import partial

import pytest

from rerankd.engine.scorer import Watch
from rerankd.engine.worker import DeviceThread
from rerankd.errors import Abandoned, DeadlineExceeded


async def test_all_work_runs_on_one_thread_in_the_order_in_which_it_came() -> None:
    thread = DeviceThread("test")
    ran: list[tuple[int, str]] = []

    def work(number: int, _: Watch) -> None:
        ran.append((number, threading.current_thread().name))

    await asyncio.gather(*(thread.run(partial(work, number), Watch()) for number in range(5)))
    thread.close()
    assert [number for number, _ in ran] == list(range(5))
    assert len({name for _, name in ran}) == 1
    assert ran[0][1] != threading.current_thread().name


async def test_the_event_loop_goes_on_while_the_device_works() -> None:
    thread = DeviceThread("test")
    done = threading.Event()
    working = asyncio.create_task(thread.run(lambda _: done.wait(10), Watch()))
    await asyncio.sleep(0.01)
    done.set()  # only a loop that still runs gets here
    assert await working is True
    thread.close()


async def test_work_whose_caller_has_gone_never_starts() -> None:
    thread = DeviceThread("test")
    free, started = threading.Event(), threading.Event()
    first = asyncio.create_task(thread.run(lambda _: free.wait(10), Watch()))
    second = asyncio.create_task(thread.run(lambda _: started.set(), Watch()))
    await asyncio.sleep(0.01)
    second.cancel()
    with pytest.raises(asyncio.CancelledError):
        await second
    free.set()
    await first
    await thread.run(lambda _: None, Watch())
    thread.close()
    assert not started.is_set()


async def test_running_work_sees_that_its_caller_has_gone() -> None:
    thread = DeviceThread("test")
    seen, running = threading.Event(), threading.Event()

    def work(watch: Watch) -> None:
        running.set()
        for _ in range(1000):
            try:
                watch.check()
            except Abandoned:
                seen.set()
                raise
            threading.Event().wait(0.005)

    task = asyncio.create_task(thread.run(work, Watch()))
    await asyncio.to_thread(running.wait, 5)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await asyncio.to_thread(seen.wait, 5)
    thread.close()


async def test_work_that_waited_past_its_deadline_never_starts() -> None:
    thread = DeviceThread("test")
    started = threading.Event()
    with pytest.raises(DeadlineExceeded):
        await thread.run(lambda _: started.set(), Watch(deadline=0.0))
    thread.close()
    assert not started.is_set()


async def test_the_time_in_the_queue_is_told() -> None:
    thread = DeviceThread("test")
    watch = Watch()
    await thread.run(lambda _: None, watch)
    thread.close()
    assert watch.timings["queue"] >= 0
