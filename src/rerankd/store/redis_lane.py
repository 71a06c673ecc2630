"""Scripts that many callers run in Redis at a time, in one lane: what waits while one batch is under way goes in the next.

So however many ask, there is one connection, one round trip for each batch, and what was put first is run first.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Sequence
from hashlib import sha1
from typing import TYPE_CHECKING, Any

from rerankd.store import redis_connection
from rerankd.store.redis_connection import RedisConnection

if TYPE_CHECKING:
    from redis.asyncio import Redis

log = logging.getLogger("rerankd.store")

AT_ONCE = 128
"""Scripts in a batch: Redis runs one in some 30 to 60 µs, and others wait for that long."""
MOST_LATER = 10_000
"""Of what nobody waits for; beyond that, the oldest is given up."""

Argument = str | int


class Script:
    def __init__(self, source: str) -> None:
        self.source = source
        self.digest = sha1(source.encode(), usedforsecurity=False).hexdigest()


class Run:
    """One script to be run; `answer` is None where nobody waits."""

    __slots__ = ("answer", "arguments", "keys", "script")

    def __init__(
        self, script: Script, keys: Sequence[str], arguments: Sequence[Argument], answer: asyncio.Future[Any] | None
    ) -> None:
        self.script = script
        self.keys = keys
        self.arguments = arguments
        self.answer = answer


class RedisLane:
    def __init__(self, connection: RedisConnection) -> None:
        self._connection = connection
        self._asked: deque[Run] = deque()
        self._later: deque[Run] = deque(maxlen=MOST_LATER)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._running = False

    @property
    def waiting(self) -> int:
        """What was put for later, and is not yet run."""
        return len(self._later)

    async def run(self, script: Script, keys: Sequence[str], arguments: Sequence[Argument]) -> Any:
        """What the script returns; None where Redis cannot be asked, fails, or takes longer than anybody should wait.

        It may have been run all the same: the answer may be what was late.
        """
        if not self._connection.may_ask():
            return None
        loop = asyncio.get_running_loop()
        if self._loop is not loop:  # what is left of another one's callers has nobody waiting
            self._loop, self._running = loop, False
            self._asked.clear()
        answer: asyncio.Future[Any] = loop.create_future()
        self._asked.append(Run(script, keys, arguments, answer))
        self._go()
        return await answer

    def put(self, script: Script, keys: Sequence[str], arguments: Sequence[Argument]) -> None:
        """To be run soon; where Redis is away, when it is back."""
        self._later.append(Run(script, keys, arguments, None))
        if self._connection.may_ask():
            self._go()

    def go_on(self) -> None:
        """Runs what was put for later, if Redis can be asked."""
        if self._later and self._connection.may_ask():
            self._go()

    def _go(self) -> None:
        loop = asyncio.get_running_loop()
        if not self._running or self._loop is not loop:
            self._loop, self._running = loop, True
            self._connection.beside(self._run_all())

    async def _run_all(self) -> None:
        try:
            while (self._asked or self._later) and await self._run_some():
                pass
        finally:
            self._running = False
            for run in self._asked:
                _tell(run, None)
            self._asked.clear()

    async def _run_some(self) -> bool:
        """False where Redis did not answer; what nobody waits for stays then, since it does no harm to run it twice."""
        batch = [run for run in _taken(self._asked, AT_ONCE) if run.answer is None or not run.answer.done()]
        later = _taken(self._later, AT_ONCE - len(batch))
        batch += later
        answers: list[Any] | None = None
        try:
            answers = await self._connection.tried(lambda redis: _run(redis, batch), redis_connection.LIMIT)
        finally:
            if answers is None:
                self._later.extendleft(reversed(later[: MOST_LATER - len(self._later)]))
            for place, run in enumerate(batch):
                _tell(run, None if answers is None else answers[place])
        return answers is not None


def _taken(runs: deque[Run], most: int) -> list[Run]:
    return [runs.popleft() for _ in range(min(most, len(runs)))]


def _tell(run: Run, answer: Any) -> None:
    if run.answer is not None and not run.answer.done():
        run.answer.set_result(answer)


async def _run(redis: Redis, batch: Sequence[Run]) -> list[Any]:
    """Scripts that Redis does not know, because it was started again, are sent whole. None stands for one that failed alone,
    on what somebody else has put under its keys. Raises what concerns Redis itself.
    """
    from redis.exceptions import NoScriptError, ResponseError

    answers = await _sent(redis, batch, whole=False)
    unknown = [place for place, answer in enumerate(answers) if isinstance(answer, NoScriptError)]
    for place, answer in zip(unknown, await _sent(redis, [batch[place] for place in unknown], whole=True), strict=True):
        answers[place] = answer
    for place, answer in enumerate(answers):
        if type(answer) is ResponseError:
            log.error("a script for limits failed in Redis (server.redis); this process counts alone where it does")
            answers[place] = None
        elif isinstance(answer, Exception):
            raise answer
    return answers


async def _sent(redis: Redis, batch: Sequence[Run], *, whole: bool) -> list[Any]:
    if not batch:
        return []
    async with redis.pipeline(transaction=False) as pipeline:
        for run in batch:
            called = ("EVAL", run.script.source) if whole else ("EVALSHA", run.script.digest)
            pipeline.execute_command(*called, len(run.keys), *run.keys, *run.arguments)
        answers: list[Any] = await pipeline.execute(raise_on_error=False)
    return answers
