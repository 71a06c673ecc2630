"""Counters in a Redis server, which all processes that use it share: exact across them, and never needed.

A request is let in by one round trip; that it has ended is told beside the requests. What a process that died had taken is
given back by itself when its time is over. Quotas begin with the ledger's sums, read again every 5 s by whoever comes first;
the rows of each process that those have already are known by its own numbers, so that nothing counts twice.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from math import ceil
from time import monotonic
from typing import Any
from uuid import uuid4

from rerankd.accounts import NO_QUOTAS, Allowance, Caller
from rerankd.errors import RerankError, StoreUnavailable
from rerankd.reservations import PERIODS, SOON, Refusal, Reservation, SpentSource, asked_of, refusal, until_more
from rerankd.store.redis_connection import Pause, RedisConnection
from rerankd.store.redis_lane import Argument, RedisLane, Script
from rerankd.store.redis_scripts import BEAT, BEGIN, RESERVE, SEED, SETTLE

PREFIX = "rerankd:limits:1:"
"""The number is that of the format of what is kept there."""
SEED_EVERY = 5
LEASE = 3000
"""Milliseconds in which the sums have to be read; then another may do it, and the former is not believed."""
BEAT_EVERY, LATELY, DEAD = 1.0, 5, 60
"""Seconds: between two signs of life; since the last one of who counts as there; and of who is forgotten."""
SEED_TRIES, SEED_PATIENCE = 10, 0.02
"""How often, and seconds after which, it is looked whether another process has read the sums by now."""
SEED_AGAIN = 1.0
"""Seconds without a further try beside the requests after one that did nothing."""
UNKNOWN = [b"unknown"]
RUN_RESERVE, RUN_SETTLE, RUN_BEGIN, RUN_SEED, RUN_BEAT = map(Script, (RESERVE, SETTLE, BEGIN, SEED, BEAT))


class RedisCounters:
    """Without `spent` quotas count what was used lately. `ledger_visible` is the number up to which every row that was
    settled here is in the sums. Raises `BadSettings` where `url` cannot be used; it does not matter whether Redis is there.
    """

    def __init__(
        self,
        url: str,
        spent: SpentSource | None,
        ledger_visible: Callable[[], int],
        clock: Callable[[], float] = monotonic,
    ) -> None:
        self._connection = RedisConnection(url, "limits go on in each process at its share", clock)
        self._lane = RedisLane(self._connection)
        self._spent = spent
        self._visible = ledger_visible
        self._process = uuid4().hex[:16]
        self._made = 0
        self._beating: asyncio.Task[None] | None = None
        self._seeding: dict[str, asyncio.Task[bool]] = {}
        self._processes: int | None = None
        self._clock = clock
        self._seed_after = 0.0

    @property
    def processes(self) -> int | None:
        return self._processes

    def start(self) -> None:
        """Says from now on that this process is there; the first request does, too."""
        if self._beating is None or self._beating.done():
            self._beating = asyncio.create_task(self._beat())

    async def reserve(
        self, caller: Caller, *, documents: int, tokens: int, seconds: float
    ) -> Reservation | Refusal | None:
        self.start()
        quotas = caller.quotas != NO_QUOTAS
        self._made += 1
        name = f"{self._process}:{self._made:x}"
        reservation = Reservation(name, caller.id, 0, tokens, documents, seconds, {}, quotas, True)
        for _ in range(SEED_TRIES):
            answer = await self._asked(caller, reservation)
            if answer is None:
                return None
            if answer != UNKNOWN:
                return self._decided(caller, reservation, answer)
            await self._seeded(caller.id)
        return None

    def settle(self, reservation: Reservation, tokens: int, sequence: int | None) -> None:
        self._end(reservation, tokens, -1 if sequence is None or self._spent is None else sequence)

    def release(self, reservation: Reservation) -> None:
        self._end(reservation, 0, -1)

    async def seed(self, key_id: str) -> bool:
        """Reads the sums of a key now, unless another process does; whether they were set. Raises `StoreUnavailable`."""
        if self._spent is None:
            return False
        lease = uuid4().hex
        keys = _keys(key_id)
        begun = await self._lane.run(RUN_BEGIN, [keys["L"], keys["V"]], [lease, LEASE, self._process, self._visible()])
        if not begun:
            return False
        wall, upto = begun
        try:
            spent = await self._spent.spent(key_id)
        except StoreUnavailable:
            raise
        except RerankError as error:
            raise StoreUnavailable(_nobody_knows(), retry_after=SOON) from error
        read = [lease, wall, spent.total, spent.month, spent.day, *(value.decode() for value in upto)]
        return bool(await self._lane.run(RUN_SEED, [keys[name] for name in "QPMLV"], read))

    @property
    def pause(self) -> Pause:
        """Whether Redis is asked now, and how often it failed."""
        return self._connection.pause

    async def settled(self) -> None:
        """Waits until Redis knows of everything that was settled, if it can be asked."""
        self._lane.go_on()
        await asyncio.gather(*self._seeding.values(), return_exceptions=True)
        await self._connection.settled()

    def close(self) -> None:
        """Lets go of everything without waiting; what others had from Redis is theirs, and what was taken expires."""
        for task in [*self._seeding.values(), *([self._beating] if self._beating else [])]:
            if not task.get_loop().is_closed():
                task.get_loop().call_soon_threadsafe(task.cancel)
        self._connection.close()

    async def _asked(self, caller: Caller, reservation: Reservation) -> Any:
        limits, quotas = caller.limits, caller.quotas
        values = (limits.concurrency, quotas.total, quotas.month, quotas.day)
        sliding = (limits.requests, limits.tokens, limits.documents)
        arguments: list[Argument] = [
            reservation.id,
            ceil(reservation.expires * 1000),
            int(reservation.quotas),
            int(self._spent is None),
            *(-1 if value is None else value for value in (*values, *sliding)),
            reservation.tokens,
            reservation.documents,
            SEED_EVERY,
        ]
        keys = _keys(caller.id)
        try:
            answer = await self._lane.run(RUN_RESERVE, [keys["W"], keys["R"], keys["Q"]], arguments)
        except asyncio.CancelledError:
            self.release(reservation)
            raise
        if answer is None:  # it may have been taken, though nobody heard of it in time
            self.release(reservation)
        return answer

    def _decided(self, caller: Caller, reservation: Reservation, answer: Any) -> Reservation | Refusal:
        _, second, due, waits, left, wall = answer
        if due and self._clock() >= self._seed_after:
            self._seed_beside(caller.id)
        used = {"requests": left[0:2], "tokens": left[2:4], "documents": left[4:6]}
        allowances = {
            name: Allowance(limit, max(0, limit - used[name][0]), used[name][1] / 1000)
            for name, limit, _ in asked_of(caller, 0, 0)
        }
        if not waits:
            return Reservation(
                reservation.id,
                caller.id,
                second,
                reservation.tokens,
                reservation.documents,
                reservation.expires,
                allowances,
                reservation.quotas,
                True,
            )
        blocked = {name.decode(): wait for name, wait in zip(waits[::2], waits[1::2], strict=True)}
        return refusal(caller, {name: _seconds(name, wait, wall) for name, wait in blocked.items()}, allowances)

    def _end(self, reservation: Reservation, tokens: int, sequence: int) -> None:
        member = f"{reservation.id} {reservation.tokens if reservation.quotas else 0}"
        keys = _keys(reservation.key_id)
        arguments: list[Argument] = [member, reservation.second, reservation.tokens, tokens, int(reservation.quotas)]
        self._lane.put(
            RUN_SETTLE,
            [keys[name] for name in "WRQPMHV"],
            [*arguments, self._process, sequence, self._visible()],
        )

    async def _seeded(self, key_id: str) -> None:
        """Waits until somebody has read the sums, whoever that is. Raises `StoreUnavailable` where the ledger is away."""
        task = self._seed_beside(key_id)
        await asyncio.wait({task})
        if not task.cancelled() and (error := task.exception()) is not None:
            raise StoreUnavailable(_nobody_knows(), retry_after=SOON) from error
        if not task.cancelled() and not task.result():
            await asyncio.sleep(SEED_PATIENCE)

    def _seed_beside(self, key_id: str) -> asyncio.Task[bool]:
        known = self._seeding.get(key_id)
        if known is not None and known.get_loop() is asyncio.get_running_loop():
            return known
        task = self._seeding[key_id] = asyncio.create_task(self._seed(key_id))
        task.add_done_callback(lambda done: self._seeding.pop(key_id, None))
        task.add_done_callback(lambda done: done.cancelled() or done.exception())  # looked at, or asyncio complains
        return task

    async def _seed(self, key_id: str) -> bool:
        self._seed_after = self._clock() + SEED_AGAIN
        done = await self.seed(key_id)
        if done:
            self._seed_after = 0.0
        return done

    async def _beat(self) -> None:
        while True:
            keys = _keys("")
            there = await self._lane.run(
                RUN_BEAT, [keys["H"], keys["V"]], [self._process, self._visible(), LATELY, DEAD]
            )
            if isinstance(there, int):
                self._processes = max(1, there)
                self._lane.go_on()
            await asyncio.sleep(BEAT_EVERY)


def _keys(key_id: str) -> dict[str, str]:
    keys = {name: f"{PREFIX}key:{key_id}:{name}" for name in "WRQPML"}
    return keys | {"H": f"{PREFIX}processes", "V": f"{PREFIX}visible"}


def _seconds(name: str, wait: int, wall: int) -> float:
    if wait >= 0:
        return wait / 1000
    for period in PERIODS:
        if name == period and wait == -2:
            return until_more(period, wall)
    return SOON


def _nobody_knows() -> str:
    return "What is left of this key's quota cannot be found out while the database is away: try again soon."
