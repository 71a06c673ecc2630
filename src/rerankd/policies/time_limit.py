"""A limit in time for what every request runs through: `asyncio.timeout` at less than half its cost."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from types import TracebackType


class TimeLimit:
    """Raises `error` out of its block after `seconds`, where something waits in it; what waits is cancelled.

        with TimeLimit(2.0): await ...

    It is for one block in one task, and is never moved. A cancellation from outside remains one.
    """

    __slots__ = ("_before", "_error", "_over", "_seconds", "_task", "_timer")

    def __init__(self, seconds: float, error: Callable[[], Exception] = TimeoutError) -> None:
        self._seconds = max(0.0, seconds)
        self._error = error
        self._over = False

    def __enter__(self) -> None:
        task = asyncio.current_task()
        if task is None:
            raise RuntimeError("A limit in time is for a task.")
        self._task = task
        self._before = task.cancelling()
        self._timer = task.get_loop().call_later(self._seconds, self._end)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._timer.cancel()
        if self._over and self._task.uncancel() <= self._before and kind is asyncio.CancelledError:
            raise self._error() from error

    def _end(self) -> None:
        self._over = True
        self._task.cancel()
