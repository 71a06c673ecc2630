"""What is put is on the disk when `put` returns, and whatever comes while the disk works shares the next commit.

One thread owns the SQLite file. Callers on an event loop pay for a place in a queue; each commit wakes all of its callers at
once, so that many of them cost little more than one. A commit that fails fails its own items and no others.
"""

from __future__ import annotations

import asyncio
import logging
import sqlite3
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import groupby
from queue import Empty, SimpleQueue
from threading import Lock, Thread
from time import monotonic
from typing import Any, Generic, TypeVar

from rerankd.errors import RerankError, StoreUnavailable

log = logging.getLogger("rerankd.store")

Item = TypeVar("Item")
T = TypeVar("T")

MOST_AT_ONCE = 512
"""Items of one commit."""
GATHERED = 0.002
"""Seconds for which an item waits for others that are about to come: a commit costs as much for one as for ten."""
MOST_WAITING = 50_000
"""Items in the queue; a further one is refused, so that a disk that stands still does not fill the memory."""
COME_BACK = 1.0
HEALS_AFTER = 5.0
"""Seconds after which a failure says nothing about the next commit any more."""
STUCK_AFTER = 10.0
SILENCE = 10.0
"""Seconds between two lines of the log about failing commits."""
LONGEST_CLOSE = 30.0


@dataclass(frozen=True, slots=True)
class _Put(Generic[Item]):
    item: Item
    sequence: int
    waiting: asyncio.Future[int] | None


@dataclass(frozen=True, slots=True)
class _Work:
    do: Callable[[sqlite3.Connection], Any]
    waiting: asyncio.Future[Any]


class _End:
    """No more comes after it."""


class GroupCommit(Generic[Item]):
    """`write` writes all of what it is given or nothing, and has committed it when it returns; `open` is called before the
    first commit and again after one that failed.

    Both run in the thread, which `name` names. Sequence numbers count from 1, in the order of the commits.
    """

    def __init__(
        self,
        open: Callable[[], sqlite3.Connection],  # noqa: A002  (it is what it does)
        write: Callable[[sqlite3.Connection, Sequence[Item]], None],
        name: str,
    ) -> None:
        self._open = open
        self._write = write
        self._name = name
        self._connection: sqlite3.Connection | None = None
        self._queue: SimpleQueue[_Put[Item] | _Work | _End] = SimpleQueue()
        self._lock = Lock()  # the order of the numbers is that of the queue, and nothing comes after the end
        self._gathering: list[tuple[Item, asyncio.Future[int]]] = []
        self._handing_over: asyncio.TimerHandle | None = None
        self._last = 0
        self._decided = 0
        self._accepting = True
        self._in_hand: Sequence[_Put[Item] | _Work] = ()
        self._since: float | None = None
        self._failed_at: float | None = None
        self._said_at: float | None = None
        self._thread = Thread(target=self._serve, name=name, daemon=True)
        self._thread.start()

    async def put(self, item: Item, *, others: bool = False) -> int:
        """Its sequence number, once it is on the disk. Raises `StoreUnavailable` where it is not.

        `others` says that more are about to come, for which it may wait a little. An item whose caller is cancelled is
        written all the same.
        """
        loop = asyncio.get_running_loop()
        waiting: asyncio.Future[int] = loop.create_future()
        self._gathering.append((item, waiting))
        if not others:
            self._hand_over()
        elif self._handing_over is None:
            self._handing_over = loop.call_later(GATHERED, self._hand_over)
        return await waiting

    def put_nowait(self, item: Item) -> int:
        """Its sequence number; it is written soon. Raises `StoreUnavailable` where too much waits already."""
        return self._add(item, None)

    async def run(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """What `work` returns, in the thread between two commits, outside of any transaction.

        Raises `StoreUnavailable` where the database fails in it, and else what it raises.
        """
        waiting: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._hand_over()
        with self._lock:
            self._admit()
            self._queue.put(_Work(work, waiting))
        return await waiting

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

    def _add(self, item: Item, waiting: asyncio.Future[int] | None) -> int:
        with self._lock:
            self._admit()
            self._last = sequence = self._last + 1
            self._queue.put(_Put(item, sequence, waiting))
        return sequence

    def _admit(self) -> None:
        if not self._accepting:
            raise StoreUnavailable("The database is closed; the server is stopping.", retry_after=COME_BACK)
        if self._queue.qsize() >= MOST_WAITING:
            raise StoreUnavailable("Too much waits to be written to the database.", retry_after=COME_BACK)

    # From here on: in the thread.

    def _serve(self) -> None:
        try:
            while not isinstance(self._turn(), _End):
                pass
        except BaseException as error:
            log.critical("the thread %s has died of %s; nothing is written any more", self._name, type(error).__name__)
        finally:
            self._end()

    def _turn(self) -> _Work | _End | None:
        """All that waits, up to a piece of work or the end, in one commit; then that."""
        batch, then = self._next()
        if batch:
            self._in_hand, self._since = batch, monotonic()
            self._commit(batch)
        if isinstance(then, _Work):
            self._in_hand, self._since = (then,), monotonic()
            self._do(then)
        self._in_hand, self._since = (), None
        return then

    def _next(self) -> tuple[list[_Put[Item]], _Work | _End | None]:
        batch: list[_Put[Item]] = []
        one = self._queue.get()
        while isinstance(one, _Put):
            batch.append(one)
            if len(batch) == MOST_AT_ONCE:
                return batch, None
            try:
                one = self._queue.get_nowait()
            except Empty:
                return batch, None
        return batch, one

    def _commit(self, batch: Sequence[_Put[Item]]) -> None:
        written = True
        try:
            self._write_together([put.item for put in batch])
            self._failed_at = None
        except Exception as error:
            self._abandon(error, f"{len(batch)} items were not written")
            if len(batch) > 1 and not _of_the_database(error):
                for put in batch:  # one that cannot be written keeps no other from it
                    self._commit([put])
                return
            written = False
        self._decided = batch[-1].sequence
        _tell(batch, written)

    def _write_together(self, items: Sequence[Item]) -> None:
        self._write(self._connected(), items)

    def _do(self, work: _Work) -> None:
        try:
            result = work.do(self._connected())
        except Exception as error:
            self._abandon(error, "a piece of work was not done")
            _on_its_loop(work.waiting, _fail, [work.waiting], _unavailable() if _of_the_database(error) else error)
        else:
            _on_its_loop(work.waiting, _resolve, [(work.waiting, result)])

    def _connected(self) -> sqlite3.Connection:
        if self._connection is None:
            self._connection = self._open()
        return self._connection

    def _abandon(self, error: Exception, what: str) -> None:
        """Nothing of what was begun stays; after a failure of the database the file is opened anew."""
        with suppress(sqlite3.Error):
            if self._connection is not None:
                self._connection.rollback()
        now = monotonic()
        if _of_the_database(error):
            self._failed_at = now
            self._disconnect()
        elif isinstance(error, RerankError):
            return
        if self._said_at is None or now - self._said_at >= SILENCE:
            self._said_at = now
            log.error("%s: %s: %s", self._name, what, _reason(error))

    def _end(self) -> None:
        """Nobody is left waiting, whatever the thread has died of."""
        with self._lock:
            self._accepting = False
            left: list[_Put[Item] | _Work] = list(self._in_hand)
            while not self._queue.empty():
                one = self._queue.get_nowait()
                if not isinstance(one, _End):
                    left.append(one)
        for one in left:
            if one.waiting is not None:
                _on_its_loop(one.waiting, _fail, [one.waiting], None)
        self._disconnect()

    def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(sqlite3.Error):
                connection.close()


def _of_the_database(error: Exception) -> bool:
    """Whether any other item would meet it, too, as a full disk or a lock; else it is of the item that was written."""
    return isinstance(error, sqlite3.OperationalError | OSError) or type(error) is sqlite3.DatabaseError


def _reason(error: Exception) -> str:
    """SQLite's own words name no value; those of others might."""
    return str(error) if isinstance(error, sqlite3.Error | OSError) else type(error).__name__


def _unavailable() -> StoreUnavailable:
    return StoreUnavailable(
        "The database cannot be written to, so nothing was kept of this request; the server's log says why.",
        retry_after=COME_BACK,
    )


def _tell(batch: Sequence[_Put[Item]], written: bool) -> None:
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
