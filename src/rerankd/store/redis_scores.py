"""Scores in a Redis server, shared by all processes that use it: it is never needed, and nobody ever waits for it for long.

What cannot be reached finds nothing. After 3 failures in a row nothing is asked for 5 s, and then a try is made on which no
request waits. Writing is done beside the requests, too. What comes out of Redis is used only where it is what was put under
that very key: other values, of other programs or cut short, are ignored.
"""

from __future__ import annotations

import asyncio
import importlib.util
import logging
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from hashlib import sha256
from time import monotonic
from typing import TYPE_CHECKING, Any, TypeVar

from rerankd.errors import BadSettings

if TYPE_CHECKING:
    from redis.asyncio import Redis

log = logging.getLogger("rerankd.store")

Answer = TypeVar("Answer")

PREFIX = b"rerankd:scores:1:"
"""The number is that of the format of keys and values."""
SEAL = 16
MAX_VALUE = 512 * 1024
MAX_KEYS = 1024
"""Asked for, or written, for one request: more, at some 10 to 25 µs each, would hold up all others."""
CONNECTIONS, WRITES = 16, 32
TIMEOUT, LIMIT, WRITE_LIMIT = 0.05, 0.09, 1.0
"""Seconds for a connection or one answer; for all of a reading; and for a writing, on which nobody waits."""
FAILURES, PAUSE = 3, 5.0


class Pause:
    """After `FAILURES` in a row it is not `open` until something succeeds; there is one try in `PAUSE` seconds, for whoever
    finds it `due` first.
    """

    def __init__(self, clock: Callable[[], float] = monotonic) -> None:
        self._clock = clock
        self._failures = 0
        self._until = 0.0

    @property
    def open(self) -> bool:
        return self._failures < FAILURES

    def due(self) -> bool:
        now = self._clock()
        if self.open or now < self._until:
            return False
        self._until = now + PAUSE
        return True

    def succeeded(self) -> None:
        if not self.open:
            log.warning("Redis (server.redis) answers again")
        self._failures = 0

    def failed(self, error: Exception) -> None:
        self._failures += 1
        self._until = self._clock() + PAUSE
        if self._failures == FAILURES:  # the kind alone: a text could hold what is not to be shown
            log.warning("Redis (server.redis) fails (%s); scores are kept in memory alone", type(error).__name__)


class RedisScores:
    """A ScoreStore. What is put without a time to live gets `ttl` seconds, so that nothing stays for ever.

    Raises `BadSettings` where `url` cannot be used; whether somebody listens there is nobody's concern.
    """

    def __init__(self, url: str, ttl: float, clock: Callable[[], float] = monotonic) -> None:
        if importlib.util.find_spec("redis") is None:
            raise BadSettings("server.redis needs Redis's client: pip install 'rerankd[redis]'")
        self._url = url
        self._ttl = ttl
        self._pause = Pause(clock)
        self._redis: Redis | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        try:
            _pool(url).make_connection()  # the object alone: nothing is connected to
        except Exception:  # the cause's text may hold the password
            raise BadSettings("server.redis: this URL cannot be used; one is redis://:PASSWORD@HOST:6379/0") from None

    async def get(self, owner: str, keys: Sequence[bytes]) -> list[bytes | None]:
        names = _names(owner, keys[:MAX_KEYS])
        nothing: list[bytes | None] = [None] * len(keys)
        if not names or not self._may_ask():
            return nothing
        values = await self._tried(lambda redis: redis.mget(names), LIMIT)
        if not isinstance(values, list) or len(values) != len(names):
            return nothing
        return [*map(_opened, names, values), *nothing[len(names) :]]

    async def put(self, owner: str, entries: Mapping[bytes, bytes], ttl: float | None) -> None:
        """Returns at once."""
        if not entries or not self._may_ask() or len(self._tasks) >= WRITES:
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

        self._beside(self._tried(write, WRITE_LIMIT))

    async def settled(self) -> None:
        """Waits until all is written that was put."""
        await asyncio.gather(*self._tasks)

    def close(self) -> None:
        """Lets go of every connection without waiting; works in the event loop, beside it, and after it."""
        redis, loop = self._redis, self._loop
        self._redis = self._loop = None
        if redis is None or loop is None:
            return
        if loop.is_running():
            loop.call_soon_threadsafe(_let_go, redis, list(self._tasks))
        else:
            _let_go(redis, [])

    def _may_ask(self) -> bool:
        if self._pause.due():
            self._beside(self._tried(lambda redis: redis.ping(), LIMIT))
        return self._pause.open

    async def _tried(self, ask: Callable[[Redis], Awaitable[Answer]], limit: float) -> Answer | None:
        """What `ask` returns; None where it fails or takes longer."""
        try:
            async with asyncio.timeout(limit):
                answer = await ask(self._client())
        except Exception as error:  # whatever it is, the request goes on without
            self._pause.failed(error)
            return None
        self._pause.succeeded()
        return answer

    def _client(self) -> Redis:
        """Of the running event loop; another one's connections could not be used."""
        loop = asyncio.get_running_loop()
        if self._redis is None or self._loop is not loop:
            from redis.asyncio import Redis

            self.close()
            self._tasks = set()
            self._redis, self._loop = Redis.from_pool(_pool(self._url)), loop
        return self._redis

    def _beside(self, work: Coroutine[Any, Any, Any]) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)  # the loop itself holds on to none
        task.add_done_callback(self._tasks.discard)


def _pool(url: str) -> Any:
    """What bounds the waiting stands above what the URL says."""
    from redis.asyncio import BlockingConnectionPool
    from redis.asyncio.connection import parse_url
    from redis.asyncio.retry import Retry
    from redis.backoff import NoBackoff

    options: dict[str, Any] = {**parse_url(url)}
    options |= {
        "socket_timeout": TIMEOUT,
        "socket_connect_timeout": TIMEOUT,
        "retry": Retry(NoBackoff(), 0),
        "retry_on_timeout": False,
        "retry_on_error": [],
        "health_check_interval": 0,
        "decode_responses": False,
        "protocol": 2,
        "driver_info": None,  # one round trip less
        "max_connections": CONNECTIONS,
        "timeout": TIMEOUT,
    }
    return BlockingConnectionPool(**options)


def _let_go(redis: Redis, tasks: Sequence[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()
    pool: Any = redis.connection_pool
    for connection in [*pool._available_connections, *pool._in_use_connections]:
        try:
            connection._close()
        except RuntimeError:  # the loop is closed, and the socket with it or soon after
            connection._writer = connection._reader = None


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
