"""What is put is on the disk when `put` returns, and whatever comes while the disk works shares the next commit.

One thread writes. Callers on an event loop pay for a place in a queue; each commit wakes all of its callers at once, so that
many of them cost little more than one. Where only one is there and the disk is quick, it is written on the spot, which is
sooner than a thread could begin.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import groupby
from queue import Empty, SimpleQueue
from threading import Lock, Thread
from time import monotonic
from typing import Any, Protocol

from rerankd.errors import StoreUnavailable

log = logging.getLogger("rerankd.store")

MOST_AT_ONCE = 512
"""Items of one commit."""
GATHERED = 0.002
"""Seconds for which an item waits for others that are about to come: a commit costs as much for one as for ten."""
QUICK = 0.001
"""Seconds: while the last commit took no longer, the event loop may wait for the next one itself."""
MOST_WAITING = 50_000
"""Items in the queue; a further one is refused, so that a disk that stands still does not fill the memory."""
COME_BACK = 1.0
HEALS_AFTER = 5.0
"""Seconds after which a failure says nothing about the next commit any more."""
STUCK_AFTER = 10.0
SILENCE = 10.0
"""Seconds between two lines of the log about failing commits."""
LONGEST_CLOSE = 30.0


class Appendable(Protocol):
    """What is asked of a `Journal`."""

    def has_room(self, size: int) -> bool: ...
    def append(self, payloads: Sequence[bytes]) -> None: ...


@dataclass(frozen=True, slots=True)
class _Put:
    item: bytes
    sequence: int
    waiting: asyncio.Future[int] | None


class _End:
    """No more comes after it."""


class GroupCommit:
    """Into `journal`, by a thread that is called `name`. Sequence numbers count from 1, in the order of the commits."""

    def __init__(self, journal: Appendable, name: str) -> None:
        self._journal = journal
        self._name = name
        self._queue: SimpleQueue[_Put | _End] = SimpleQueue()
        self._lock = Lock()  # the order of the numbers is that of the queue, and nothing comes after the end
        self._writing = Lock()
        self._gathering: list[tuple[bytes, asyncio.Future[int]]] = []
        self._handing_over: asyncio.TimerHandle | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._last = 0
        self._decided = 0
        self._accepting = True
        self._in_hand: Sequence[_Put] = ()
        self._since: float | None = None
        self._took = 0.0
        self._failed_at: float | None = None
        self._said_at: float | None = None
        self._thread = Thread(target=self._serve, name=name, daemon=True)
        self._thread.start()

    async def put(self, item: bytes, *, others: bool = False) -> int:
        """Its sequence number, once it is on the disk. Raises `StoreUnavailable` where it is not.

        `others` says that more are about to come, for which it may wait a little. An item whose caller is cancelled is
        written all the same.
        """
        sequence = self._put_here(item) if not others and self._is_free(item) else None
        if sequence is not None:
            return sequence
        loop = asyncio.get_running_loop()
        if loop is not self._loop:  # the timer of one that has ended never comes
            self._loop, self._handing_over = loop, None
        waiting: asyncio.Future[int] = loop.create_future()
        self._gathering.append((item, waiting))
        if not others:
            self._hand_over()
        elif self._handing_over is None:
            self._handing_over = loop.call_later(GATHERED, self._hand_over)
        return await waiting

    def put_nowait(self, item: bytes) -> int:
        """Its sequence number; it is written soon. Raises `StoreUnavailable` where too much waits already."""
        return self._add(item, None)

    def close(self) -> None:
        """Writes what is left; blocks meanwhile, for half a minute at most. Nothing is taken any more."""
        self._hand_over()
        with self._lock:
            if self._accepting:
                self._accepting = False
                self._queue.put(_End())
        self._thread.join(LONGEST_CLOSE)

    @property
    def decided(self) -> int:
        """Each item with a sequence number up to this one is on the disk, or never will be."""
        return self._decided

    @property
    def waiting(self) -> int:
        """Items that are not decided."""
        return self._last - self._decided

    @property
    def healthy(self) -> bool:
        """Whether the next commit is likely to go well: none has failed in the last seconds, and none stands still."""
        since, failed_at, now = self._since, self._failed_at, monotonic()
        failing = failed_at is not None and now - failed_at < HEALS_AFTER
        return self._accepting and not failing and (since is None or now - since < STUCK_AFTER)

    def _is_free(self, item: bytes) -> bool:
        """Whether nothing is before it, and the disk was quick the last time."""
        idle = self._last == self._decided and not self._gathering and self._accepting
        return idle and 0 < self._took <= QUICK and self._journal.has_room(len(item))

    def _put_here(self, item: bytes) -> int | None:
        """None where another thread was faster, which has to be decided first."""
        if not self._writing.acquire(blocking=False):
            return None
        try:
            with self._lock:
                if self._last != self._decided or not self._accepting:
                    return None
                self._last = sequence = self._last + 1
            written = self._written([item])
            self._decided = sequence
        finally:
            self._writing.release()
        if not written:
            raise _unavailable()
        return sequence

    def _hand_over(self) -> None:
        """What was gathered, to the thread; who cannot be taken hears of it."""
        if self._handing_over is not None:
            self._handing_over.cancel()
            self._handing_over = None
        gathered, self._gathering = self._gathering, []
        for item, waiting in gathered:
            try:
                self._add(item, waiting)
            except StoreUnavailable as error:
                _fail([waiting], error)

    def _add(self, item: bytes, waiting: asyncio.Future[int] | None) -> int:
        with self._lock:
            if not self._accepting:
                raise StoreUnavailable("The ledger is closed; the server is stopping.", retry_after=COME_BACK)
            if self._queue.qsize() >= MOST_WAITING:
                raise StoreUnavailable("Too much waits to be written to the disk.", retry_after=COME_BACK)
            self._last = sequence = self._last + 1
            self._queue.put(_Put(item, sequence, waiting))
        return sequence

    def _written(self, items: Sequence[bytes]) -> bool:
        """Who calls has `_writing`."""
        began = monotonic()
        try:
            self._journal.append(items)
        except Exception as error:
            self._failed(error, len(items))
            return False
        self._took = monotonic() - began
        self._failed_at = None
        return True

    def _failed(self, error: Exception, items: int) -> None:
        """In the log in the system's own words, which name no value; those of another error might."""
        now = self._failed_at = monotonic()
        self._took = 0.0
        if self._said_at is None or now - self._said_at >= SILENCE:
            self._said_at = now
            reason = error.strerror if isinstance(error, OSError) else type(error).__name__
            log.error("%s: %d rows were not written: %s", self._name, items, reason)

    # From here on: in the thread.

    def _serve(self) -> None:
        try:
            while self._turn():
                pass
        except BaseException as error:
            log.critical("the thread %s has died of %s; nothing is written any more", self._name, type(error).__name__)
        finally:
            self._end()

    def _turn(self) -> bool:
        """All that waits, in one commit; False at the end."""
        batch, ended = self._next()
        if batch:
            self._in_hand, self._since = batch, monotonic()
            with self._writing:
                written = self._written([put.item for put in batch])
                self._decided = batch[-1].sequence
            _tell(batch, written)
            self._in_hand, self._since = (), None
        return not ended

    def _next(self) -> tuple[list[_Put], bool]:
        batch: list[_Put] = []
        one = self._queue.get()
        while isinstance(one, _Put):
            batch.append(one)
            if len(batch) == MOST_AT_ONCE:
                return batch, False
            try:
                one = self._queue.get_nowait()
            except Empty:
                return batch, False
        return batch, True

    def _end(self) -> None:
        """Nobody is left waiting, whatever the thread has died of."""
        with self._lock:
            self._accepting = False
            left = list(self._in_hand)
            while not self._queue.empty():
                one = self._queue.get_nowait()
                if isinstance(one, _Put):
                    left.append(one)
        _tell(left, written=False)


def _unavailable() -> StoreUnavailable:
    return StoreUnavailable(
        "The ledger cannot be written to, so nothing was kept of this request; the server's log says why.",
        retry_after=COME_BACK,
    )


def _tell(batch: Sequence[_Put], written: bool) -> None:
    """One call for all callers of an event loop; there is hardly ever more than one loop."""
    waiting = [(put.waiting, put.sequence) for put in batch if put.waiting is not None]
    for _, of_loop in groupby(waiting, lambda pair: id(pair[0].get_loop())):
        pairs = list(of_loop)
        if written:
            _on_its_loop(pairs[0][0], _resolve, pairs)
        else:
            _on_its_loop(pairs[0][0], _fail, [future for future, _ in pairs], None)


def _on_its_loop(future: asyncio.Future[Any], call: Callable[..., None], *arguments: object) -> None:
    with suppress(RuntimeError):  # the loop is closed: nobody waits
        future.get_loop().call_soon_threadsafe(call, *arguments)


def _resolve(pairs: Iterable[tuple[asyncio.Future[Any], Any]]) -> None:
    for future, result in pairs:
        if not future.done():  # its caller was cancelled
            future.set_result(result)


def _fail(futures: Iterable[asyncio.Future[Any]], error: Exception | None) -> None:
    """With an error of its own for each: one that several raise would collect their frames."""
    for future in futures:
        if not future.done():
            future.set_exception(error or _unavailable())
