"""An answer that is worked on only as long as somebody waits for it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from starlette.requests import ClientDisconnect
from starlette.types import Receive, Scope

Answer = TypeVar("Answer")

EXTENSION, HANG_UP = "rerankd", "hang_up"
"""Where a request's scope has its connection's end."""


class HangUp:
    """The end of a connection, for whoever works for the client at its other end; `BoundedHttpProtocol` puts it into the
    scope of each request. A connection has one request answered at a time.
    """

    __slots__ = ("_tell", "happened")

    def __init__(self) -> None:
        self.happened = False
        self._tell: Callable[[], object] | None = None

    def happens(self) -> None:
        self.happened = True
        if self._tell is not None:
            self._tell()

    def tell(self, listener: Callable[[], object] | None) -> None:
        """From now on `listener` is called when it happens, and nobody else."""
        self._tell = listener


def unless_disconnected(
    scope: Scope, receive: Receive, work: Coroutine[Any, Any, Answer]
) -> Coroutine[Any, Any, Answer]:
    """What `work` returns. Raises `ClientDisconnect`, with the work cancelled, when the client hangs up first.

    The request's body must have been read: what comes after it can only be the end.
    """
    hang_up = scope.get("extensions", {}).get(EXTENSION, {}).get(HANG_UP)
    return _asked(receive, work) if hang_up is None else _told(hang_up, work)


async def _told(hang_up: HangUp, work: Coroutine[Any, Any, Answer]) -> Answer:
    """In the task that we are in, and not in two more that wait for one of two things at each request."""
    task = asyncio.current_task()
    if hang_up.happened or task is None:
        work.close()
        raise ClientDisconnect
    hang_up.tell(task.cancel)
    try:
        return await work
    except asyncio.CancelledError:
        if hang_up.happened and task.uncancel() == 0:
            raise ClientDisconnect from None
        raise
    finally:
        hang_up.tell(None)


async def _asked(receive: Receive, work: Coroutine[Any, Any, Answer]) -> Answer:
    """Under another server, which has to be asked all the while."""
    working = asyncio.ensure_future(work)
    hanging_up = asyncio.ensure_future(_disconnected(receive))
    try:
        await asyncio.wait({working, hanging_up}, return_when=asyncio.FIRST_COMPLETED)
        if working.done():
            return working.result()
        raise ClientDisconnect
    finally:
        hanging_up.cancel()
        if not working.done():
            working.cancel()


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
