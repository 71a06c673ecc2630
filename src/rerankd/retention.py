"""What need not be kept any longer is deleted, a little at a time, once an hour."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager, suppress

from rerankd.errors import RerankError

log = logging.getLogger("rerankd.store")

EVERY = 3600.0
"""Seconds."""

Forget = Callable[[], Awaitable[int]]
"""Deletes what is too old; how many that were. May raise a `RerankError`: then it is tried again in an hour."""


@asynccontextmanager
async def retained(forgetting: Mapping[str, Forget]) -> AsyncIterator[None]:
    """As long as the block lasts; `forgetting` has what is forgotten by what the log calls it."""
    chores = asyncio.create_task(_hourly(forgetting), name="retention")
    try:
        yield
    finally:
        chores.cancel()
        with suppress(asyncio.CancelledError):
            await chores


async def _hourly(forgetting: Mapping[str, Forget]) -> None:
    while True:
        for what, forget in forgetting.items():
            try:
                deleted = await forget()
            except RerankError as error:
                log.warning("%s that are due to be deleted are still there: %s", what, error.code)
            else:
                if deleted:
                    log.info("%d %s were old enough to be deleted", deleted, what)
        await asyncio.sleep(EVERY)
