"""A process of its own that asks Redis to let requests in, for tests: `python -m tests.store.limited_process URL KEY …`.

It makes `count` requests of a key with `limit` requests a minute, `at_once` beside each other, and prints how many were let
in; each reservation lives for `seconds` and is never ended.
"""

from __future__ import annotations

import asyncio
import sys

from rerankd.accounts import Caller, Limits
from rerankd.reservations import Reservation
from rerankd.store import redis_connection
from rerankd.store.redis_counters import RedisCounters


async def hammer(url: str, key: str, limit: int, concurrency: int, count: int, at_once: int, seconds: float) -> int:
    redis_connection.TIMEOUT = redis_connection.LIMIT = 10.0  # a busy machine is no reason to count apart
    caller = Caller(id=key, name=key, limits=Limits(requests=limit or None, concurrency=concurrency or None))
    counters = RedisCounters(url, None, lambda: 0)
    let_in, left = 0, count

    async def one_after_another() -> None:
        nonlocal let_in, left
        while left:
            left -= 1
            outcome = await counters.reserve(caller, documents=1, tokens=0, seconds=seconds)
            assert outcome is not None, "Redis did not answer"
            let_in += isinstance(outcome, Reservation)

    await asyncio.gather(*(one_after_another() for _ in range(at_once)))
    return let_in


if __name__ == "__main__":
    url, key, *numbers = sys.argv[1:]
    limit, concurrency, count, at_once, seconds = map(float, numbers)
    let_in = asyncio.run(hammer(url, key, int(limit), int(concurrency), int(count), int(at_once), seconds))
    print(let_in, flush=True)  # noqa: T201
