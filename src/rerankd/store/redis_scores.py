"""Scores in a Redis server, shared by all processes that use it: it is never needed, and nobody ever waits for it for long.

What cannot be reached finds nothing. Writing is done beside the requests. What comes out of Redis is used only where it is
what was put under that very key: other values, of other programs or cut short, are ignored.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from hashlib import sha256
from time import monotonic
from typing import TYPE_CHECKING

from rerankd.store import redis_connection
from rerankd.store.redis_connection import Pause, RedisConnection

if TYPE_CHECKING:
    from redis.asyncio import Redis

PREFIX = b"rerankd:scores:1:"
"""The number is that of the format of keys and values."""
SEAL = 16
MAX_VALUE = 512 * 1024
MAX_KEYS = 1024
"""Asked for, or written, for one request: more, at some 10 to 25 µs each, would hold up all others."""
WRITES = 32
WRITE_LIMIT = 1.0
"""Seconds for a writing, on which nobody waits."""


class RedisScores:
    """A ScoreStore. What is put without a time to live gets `ttl` seconds, so that nothing stays for ever.

    Raises `BadSettings` where `url` cannot be used; whether somebody listens there is nobody's concern.
    """

    def __init__(self, url: str, ttl: float, clock: Callable[[], float] = monotonic) -> None:
        self._connection = RedisConnection(url, "scores are kept in memory alone", clock)
        self._ttl = ttl

    async def get(self, owner: str, keys: Sequence[bytes]) -> list[bytes | None]:
        names = _names(owner, keys[:MAX_KEYS])
        nothing: list[bytes | None] = [None] * len(keys)
        if not names or not self._connection.may_ask():
            return nothing
        values = await self._connection.tried(lambda redis: redis.mget(names), redis_connection.LIMIT)
        if not isinstance(values, list) or len(values) != len(names):
            return nothing
        return [*map(_opened, names, values), *nothing[len(names) :]]

    async def put(self, owner: str, entries: Mapping[bytes, bytes], ttl: float | None) -> None:
        """Returns at once."""
        if not entries or not self._connection.may_ask() or len(self._connection.tasks) >= WRITES:
            return
        names = _names(owner, list(entries)[:MAX_KEYS])
        values = {
            name: _sealed(name, value)
            for name, value in zip(names, entries.values(), strict=False)
            if len(value) + SEAL <= MAX_VALUE
        }
        milliseconds = max(1, int((self._ttl if ttl is None else ttl) * 1000))

        async def write(redis: Redis) -> None:
            async with redis.pipeline(transaction=False) as pipeline:
                for name, value in values.items():
                    pipeline.set(name, value, px=milliseconds)
                await pipeline.execute()

        self._connection.beside(self._connection.tried(write, WRITE_LIMIT))

    @property
    def pause(self) -> Pause:
        """Whether Redis is asked now, and how often it failed."""
        return self._connection.pause

    async def settled(self) -> None:
        """Waits until all is written that was put."""
        await self._connection.settled()

    def close(self) -> None:
        """Lets go of every connection without waiting; works in the event loop, beside it, and after it."""
        self._connection.close()


def _names(owner: str, keys: Sequence[bytes]) -> list[bytes]:
    """The keys in Redis; the owner's part has one length, so that no two owners share one."""
    start = PREFIX + sha256(owner.encode()).hexdigest()[:32].encode() + b":"
    return [start + key.hex().encode() for key in keys]


def _sealed(name: bytes, value: bytes) -> bytes:
    return sha256(name + value).digest()[:SEAL] + value


def _opened(name: bytes, sealed: object) -> bytes | None:
    """The value, where it is whole and was put under `name`."""
    if not isinstance(sealed, bytes) or len(sealed) > MAX_VALUE:
        return None
    value = sealed[SEAL:]
    return value if _sealed(name, value) == sealed else None
