"""An answer that is worked on only as long as somebody waits for it."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from starlette.requests import ClientDisconnect, Request

Answer = TypeVar("Answer")


async def unless_disconnected(request: Request, work: Coroutine[Any, Any, Answer]) -> Answer:
    """What `work` returns. Raises `ClientDisconnect`, with the work cancelled, when the client hangs up first.

    The request's body must have been read: what comes after it can only be the end.
    """
    working = asyncio.ensure_future(work)
    hanging_up = asyncio.ensure_future(_disconnected(request))
    try:
        await asyncio.wait({working, hanging_up}, return_when=asyncio.FIRST_COMPLETED)
        if working.done():
            return working.result()
        raise ClientDisconnect
    finally:
        hanging_up.cancel()
        if not working.done():
            working.cancel()


async def _disconnected(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
