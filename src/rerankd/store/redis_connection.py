"""A connection to Redis that nobody ever waits on for long: what cannot be asked is not asked, and says so at once.

After 3 failures in a row nothing is asked for 5 s, and then a try is made on which no request waits.
"""

from __future__ import annotations

import asyncio
import importlib.util
import logging
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from time import monotonic
from typing import TYPE_CHECKING, Any, TypeVar

from rerankd.errors import BadSettings

if TYPE_CHECKING:
    from redis.asyncio import Redis

log = logging.getLogger("rerankd.store")

Answer = TypeVar("Answer")

CONNECTIONS = 16
TIMEOUT, LIMIT = 0.05, 0.09
"""Seconds for a connection or one answer, and for all of what is asked at a time."""
FAILURES, PAUSE = 3, 5.0


class Pause:
    """After `FAILURES` in a row it is not `open` until something succeeds; there is one try in `PAUSE` seconds, for whoever
    finds it `due` first. `without` says in the log what is done meanwhile; `count` is how often it failed in all.
    """

    def __init__(self, without: str, clock: Callable[[], float] = monotonic) -> None:
        self.count = 0
        self._without = without
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
        self.count += 1
        self._failures += 1
        self._until = self._clock() + PAUSE
        if self._failures == FAILURES:  # the kind alone: a text could hold what is not to be shown
            log.warning("Redis (server.redis) fails (%s); %s", type(error).__name__, self._without)


class RedisConnection:
    """Raises `BadSettings` where `url` cannot be used; whether somebody listens there is nobody's concern."""

    def __init__(self, url: str, without: str, clock: Callable[[], float] = monotonic) -> None:
        if importlib.util.find_spec("redis") is None:
            raise BadSettings("server.redis needs Redis's client: pip install 'rerankd[redis]'")
        self.pause = Pause(without, clock)
        self.tasks: set[asyncio.Task[Any]] = set()
        self._url = url
        self._redis: Redis | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        try:
            _pool(url).make_connection()  # the object alone: nothing is connected to
        except Exception:  # the cause's text may hold the password
            raise BadSettings("server.redis: this URL cannot be used; one is redis://:PASSWORD@HOST:6379/0") from None

    def may_ask(self) -> bool:
        if self.pause.due():
            self.beside(self.tried(lambda redis: redis.ping(), LIMIT))
        return self.pause.open

    async def tried(self, ask: Callable[[Redis], Awaitable[Answer]], limit: float) -> Answer | None:
        """What `ask` returns; None where it fails or takes longer than `limit` seconds."""
        try:
            async with asyncio.timeout(limit):
                answer = await ask(self.client())
        except Exception as error:  # whatever it is, the request goes on without
            self.pause.failed(error)
            return None
        self.pause.succeeded()
        return answer

    def client(self) -> Redis:
        """Of the running event loop; another one's connections could not be used."""
        loop = asyncio.get_running_loop()
        if self._redis is None or self._loop is not loop:
            from redis.asyncio import Redis

            self.close()
            self.tasks.difference_update([task for task in self.tasks if task.get_loop() is not loop])
            self._redis, self._loop = Redis.from_pool(_pool(self._url)), loop
        return self._redis

    def beside(self, work: Coroutine[Any, Any, Any]) -> None:
        task = asyncio.ensure_future(work)
        self.tasks.add(task)  # the loop itself holds on to none
        task.add_done_callback(self.tasks.discard)

    async def settled(self) -> None:
        """Waits until everything has ended that was begun beside the requests."""
        await asyncio.gather(*self.tasks)

    def close(self) -> None:
        """Lets go of every connection without waiting; works in the event loop, beside it, and after it."""
        redis, loop = self._redis, self._loop
        self._redis = self._loop = None
        if redis is None or loop is None:
            return
        if loop.is_running():
            loop.call_soon_threadsafe(_let_go, redis, list(self.tasks))
        else:
            _let_go(redis, [])


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
