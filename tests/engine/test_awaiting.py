from __future__ import annotations

import asyncio
import gc
import threading
import weakref
from concurrent import futures
from concurrent.futures import Future
from contextlib import suppress

import pytest

from rerankd.engine.awaiting import awaited


class Held:
    pass


async def test_what_another_thread_sets_is_what_comes() -> None:
    answer: Future[str] = Future()
    waiting = asyncio.create_task(awaited(answer))
    await asyncio.sleep(0)
    threading.Thread(target=answer.set_result, args=("done",)).start()
    assert await waiting == "done"


async def test_what_is_there_already_comes_too() -> None:
    answer: Future[str] = Future()
    answer.set_result("done")
    assert await awaited(answer) == "done"


async def test_an_error_comes_as_it_is() -> None:
    answer: Future[str] = Future()
    answer.set_exception(ValueError("mine"))
    with pytest.raises(ValueError, match="mine"):
        await awaited(answer)


async def test_whoever_is_cancelled_cancels_the_answer() -> None:
    answer: Future[str] = Future()
    waiting = asyncio.create_task(awaited(answer))
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert answer.cancelled()


async def test_an_answer_that_somebody_else_cancelled_does_not_cancel_the_caller() -> None:
    answer: Future[str] = Future()
    waiting = asyncio.create_task(awaited(answer))
    await asyncio.sleep(0)
    answer.cancel()
    with pytest.raises(futures.CancelledError):
        await waiting
    assert not waiting.cancelled()


@pytest.mark.parametrize("fails", [False, True])
async def test_an_answer_is_let_go_of_without_a_collection(fails: bool) -> None:
    gc.disable()
    try:
        held = Held()
        kept = weakref.ref(held)
        answer: Future[object] = Future()
        waiting = asyncio.create_task(awaited(answer))
        await asyncio.sleep(0)
        if fails:
            answer.set_exception(ValueError(held))
        else:
            answer.set_result(held)
        del held, answer
        with suppress(ValueError):
            await waiting
        del waiting
        await asyncio.sleep(0)
        assert kept() is None
    finally:
        gc.enable()


def test_an_answer_to_a_loop_that_is_closed_goes_nowhere(caplog: pytest.LogCaptureFixture) -> None:
    answer: Future[str] = Future()
    loop = asyncio.new_event_loop()
    waiting = loop.create_task(awaited(answer))
    loop.call_soon(loop.stop)
    loop.run_forever()
    loop.close()
    answer.set_result("late")
    assert not waiting.done()
    assert caplog.text == ""
    waiting.get_coro().close()
