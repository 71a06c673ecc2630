"""Threads beside the event loop and the device, for tokenising and putting results together; small never waits for large."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import CancelledError, ThreadPoolExecutor
from typing import TypeVar

from rerankd.engine.awaiting import awaited
from rerankd.errors import Refused

Answer = TypeVar("Answer")

THREADS = 2
"""For the small, and as many for the large."""


class Beside:
    """`refusal` makes what is raised once it is closed."""

    def __init__(self, name: str, refusal: Callable[[], Refused]) -> None:
        self._small = ThreadPoolExecutor(THREADS, thread_name_prefix=f"{name}-small")
        self._large = ThreadPoolExecutor(THREADS, thread_name_prefix=f"{name}-large")
        self._refusal = refusal
        self._closing = False

    async def run(self, work: Callable[[], Answer], *, large: bool) -> Answer:
        """What `work` returns or raises. Cancelling the caller keeps it from starting."""
        try:
            answer = (self._large if large else self._small).submit(_contained, work)
        except RuntimeError:
            if self._closing:
                raise self._refusal() from None
            raise
        waiting = awaited(answer)
        del answer  # it holds what `work` returns
        try:
            return await waiting
        except CancelledError:
            raise self._refusal() from None

    def close(self) -> None:
        """What has not begun is refused; what has is waited for."""
        self._closing = True
        for pool in (self._small, self._large):
            pool.shutdown(wait=False, cancel_futures=True)
        for pool in (self._small, self._large):
            pool.shutdown(wait=True)


def _contained(work: Callable[[], Answer]) -> Answer:
    """A panic in Rust's part of a tokenizer is no Exception; it must not end the event loop that waits for it."""
    try:
        return work()
    except Exception:
        raise
    except BaseException as cause:
        raise RuntimeError("something beside the event loop panicked") from cause
