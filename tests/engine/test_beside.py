from __future__ import annotations

import asyncio
import threading

import pytest

from rerankd.engine.beside import THREADS, Beside
from rerankd.errors import Refused
from tests.engine.fake_models import PATIENCE


def beside() -> Beside:
    return Beside("test", lambda: Refused("Closed."))


async def test_what_work_returns_or_raises_comes_back() -> None:
    threads = beside()
    assert await threads.run(lambda: 7, large=False) == 7

    def fails() -> None:
        raise ValueError("mine")

    with pytest.raises(ValueError, match="mine"):
        await threads.run(fails, large=True)
    threads.close()


async def test_small_work_does_not_wait_for_large_work() -> None:
    threads, free = beside(), threading.Event()
    large = [asyncio.create_task(threads.run(lambda: free.wait(PATIENCE), large=True)) for _ in range(THREADS * 5)]
    assert await asyncio.wait_for(threads.run(lambda: "small", large=False), PATIENCE) == "small"
    assert not any(task.done() for task in large)
    free.set()
    await asyncio.gather(*large)
    threads.close()


async def test_work_whose_caller_has_gone_never_starts() -> None:
    threads, free, started = beside(), threading.Event(), threading.Event()
    busy = [asyncio.create_task(threads.run(lambda: free.wait(PATIENCE), large=False)) for _ in range(THREADS)]
    await asyncio.sleep(0)
    queued = asyncio.create_task(threads.run(started.set, large=False))
    await asyncio.sleep(0)
    queued.cancel()
    with pytest.raises(asyncio.CancelledError):
        await queued
    free.set()
    await asyncio.gather(*busy)
    await threads.run(lambda: None, large=False)
    assert not started.is_set()
    threads.close()


async def test_closing_refuses_what_has_not_begun_and_waits_for_what_has() -> None:
    threads, begun, free = beside(), threading.Semaphore(0), threading.Event()

    def work() -> str:
        begun.release()
        free.wait(PATIENCE)
        return "done"

    running = [asyncio.create_task(threads.run(work, large=False)) for _ in range(THREADS)]
    for _ in running:
        assert await asyncio.to_thread(begun.acquire, timeout=PATIENCE)
    queued = asyncio.create_task(threads.run(work, large=False))
    await asyncio.sleep(0)
    closing = asyncio.create_task(asyncio.to_thread(threads.close))
    with pytest.raises(Refused):
        await queued
    free.set()
    assert await asyncio.gather(*running) == ["done"] * THREADS
    await closing
    with pytest.raises(Refused):
        await threads.run(work, large=False)


async def test_a_panic_is_an_exception_to_whoever_waits() -> None:
    class Panic(BaseException):
        pass

    def panics() -> None:
        raise Panic

    threads = beside()
    with pytest.raises(RuntimeError, match="panicked"):
        await threads.run(panics, large=False)
    threads.close()
