"""A reranker that answers by the call's deadline, or says that it did not."""

from __future__ import annotations

import asyncio
from types import TracebackType
from typing import cast

from rerankd.errors import DeadlineExceeded
from rerankd.reranker import Reranker
from rerankd.types import Call, RerankRequest, RerankResponse


class Deadlined:
    def __init__(self, inner: Reranker) -> None:
        self._inner = inner

    async def rerank(self, request: RerankRequest, call: Call) -> RerankResponse:
        """Raises `DeadlineExceeded`; the work inside is cancelled by then."""
        left = call.remaining()
        if left is None:
            return await self._inner.rerank(request, call)
        with TimeLimit(left):
            return await self._inner.rerank(request, call)


class TimeLimit:
    """As `asyncio.timeout`, for less than half of what that costs at each request: the task is cancelled after so many
    `seconds`, and a cancellation from elsewhere stays one.
    """

    __slots__ = ("_before", "_over", "_seconds", "_task", "_timer")

    def __init__(self, seconds: float) -> None:
        self._seconds = max(0.0, seconds)
        self._over = False

    def __enter__(self) -> None:
        self._task = cast("asyncio.Task[object]", asyncio.current_task())
        self._before = self._task.cancelling()
        self._timer = self._task.get_loop().call_later(self._seconds, self._end)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Raises `DeadlineExceeded` where the time was up and nobody else has cancelled the task."""
        self._timer.cancel()
        if self._over and self._task.uncancel() <= self._before and kind is asyncio.CancelledError:
            raise DeadlineExceeded("The answer was not ready within the time that a request has.") from None

    def _end(self) -> None:
        self._over = True
        self._task.cancel()
