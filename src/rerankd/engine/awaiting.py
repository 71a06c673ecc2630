"""A thread's answer, awaited on an event loop, and let go of at once.

asyncio.wrap_future leaves a cycle of the two futures behind, and in it the answer, until Python's collector comes by: with
torch's many objects in memory that is seldom, and an answer here holds a request's tokens or vectors.
"""

from __future__ import annotations

import asyncio
from concurrent.futures import Future
from contextlib import suppress
from typing import TypeVar

Answer = TypeVar("Answer")


async def awaited(answer: Future[Answer]) -> Answer:
    """What `answer` comes to. Cancelling the caller cancels it.

    Raises `concurrent.futures.CancelledError`, which is not asyncio's, where it was cancelled by somebody else.
    """
    loop = asyncio.get_running_loop()
    ready: asyncio.Future[None] = loop.create_future()

    def wake(_: Future[Answer]) -> None:
        with suppress(RuntimeError):  # the loop has been closed, and nobody waits
            loop.call_soon_threadsafe(_ring, ready)

    answer.add_done_callback(wake)
    try:
        await ready
        return answer.result()
    except asyncio.CancelledError:
        answer.cancel()
        raise
    finally:
        del answer  # an exception's frames hold this one


def _ring(ready: asyncio.Future[None]) -> None:
    if not ready.done():
        ready.set_result(None)
