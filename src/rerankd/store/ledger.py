"""The ledger in SQLite: a row, what it adds to the sums, and the answer under its Idempotency-Key in one transaction.

What `record` has returned for is on the disk. Rows are only ever added; those that are older than they need be are deleted,
a day at a time and a few at once, and the sums stay.
"""

from __future__ import annotations

import asyncio
import logging
import sqlite3
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import UTC, datetime
from functools import cache
from itertools import chain
from pathlib import Path
from time import time
from typing import TypeVar

import msgspec

from rerankd.accounts import Entry, Spent
from rerankd.errors import StoreUnavailable
from rerankd.store.durable_file import open_durable
from rerankd.store.group_commit import GroupCommit
from rerankd.store.idempotency import COMPLETE, kept
from rerankd.store.sums import DAY_MS

log = logging.getLogger("rerankd.store")

T = TypeVar("T")

COLUMNS = tuple(name for name in Entry.__struct_fields__ if name != "completion")
"""Of `ledger`, as an Entry has them; its completion is the last field, and not of this table."""
AT_ONCE = 250
"""Rows deleted in one transaction, so that no request waits for long behind it."""
KEPT_SINCE = "ledger.kept_since"
"""The fact that says from which millisecond on every row is there: sums of earlier days cannot be added up again."""
REMEMBERED = (
    "INSERT INTO facts (name, number, text) VALUES (?, ?, '') "
    "ON CONFLICT (name) DO UPDATE SET number = max(number, excluded.number)"
)
TOO_OLD = "DELETE FROM ledger WHERE number IN (SELECT number FROM ledger WHERE at < ? ORDER BY at LIMIT ?)"
SPENT = (
    "SELECT coalesce(sum(tokens), 0), coalesce(sum(CASE WHEN substr(day, 1, 7) = ? THEN tokens END), 0), "
    "coalesce(sum(CASE WHEN day = ? THEN tokens END), 0) FROM usage WHERE key_id = ?"
)


class SqliteLedger:
    """Over the database in `file`, which is up to date (`Database` brings it there) before the first row comes."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._commits = GroupCommit[Entry](lambda: open_durable(file), write, "ledger")
        self._readers = ThreadPoolExecutor(1, "ledger-reads")  # a sum that takes its time delays no commit
        self._reading: sqlite3.Connection | None = None

    async def open(self) -> None:
        """So that a file that cannot be used is met before the first request. Raises `StoreUnavailable`."""
        await self._commits.run(
            lambda connection: connection.execute("SELECT 1 FROM ledger, usage, idempotency LIMIT 0")
        )

    async def record(self, entry: Entry, *, others: bool = False) -> int:
        """The row's sequence number; it is on the disk. Raises `StoreUnavailable` where it is not."""
        return await self._commits.put(entry, others=others)

    def note(self, entry: Entry) -> None:
        """The row is written soon, and nobody waits for it; what cannot be written is lost, and the log says so."""
        try:
            self._commits.put_nowait(entry)
        except StoreUnavailable as error:
            log.error("the row of a failed request is lost: %s", error.message)

    @property
    def visible(self) -> int:
        """Every row with a sequence number up to this one is in the sums, if it ever will be."""
        return self._commits.decided

    @property
    def healthy(self) -> bool:
        """Whether the next row is likely to be written."""
        return self._commits.healthy

    async def spent(self, key_id: str) -> Spent:
        """What the key has used, with every row that was `visible` before the call. Raises `StoreUnavailable`."""
        return await asyncio.get_running_loop().run_in_executor(self._readers, self._read, key_id)

    async def forget(self, days: int) -> int:
        """Deletes the rows of all days (of UTC) before the last so many; returns how many. Raises `StoreUnavailable`."""
        before = (int(time() * 1000) // DAY_MS - days) * DAY_MS
        total = 0
        while deleted := await self._commits.run(lambda connection: _forget(connection, before)):
            total += deleted
        return total

    async def run(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """What `work` returns, in the thread that writes, between two commits, as `GroupCommit.run` does it: nobody else has
        to fight for the file's lock. Raises `StoreUnavailable`, and what `work` raises.
        """
        return await self._commits.run(work)

    @property
    def waiting(self) -> int:
        """Rows that are not on the disk yet."""
        return self._commits.waiting

    async def stop(self) -> None:
        """There is nothing that has to be sent anywhere; `close` writes what was noted."""

    def close(self) -> None:
        """Writes what was noted; blocks meanwhile."""
        self._commits.close()
        self._readers.submit(self._stop_reading)
        self._readers.shutdown()

    # In the reading thread.

    def _read(self, key_id: str) -> Spent:
        today = datetime.now(UTC).date().isoformat()
        try:
            if self._reading is None:
                self._reading = open_durable(self._file)
            total, month, day = self._reading.execute(SPENT, (today[:7], today, key_id)).fetchone()
        except (sqlite3.Error, OSError) as error:
            self._stop_reading()
            log.error("the ledger's sums cannot be read: %s", error)
            raise StoreUnavailable("The database cannot be read; the server's log says why.", retry_after=1.0) from None
        return Spent(total=total, month=month, day=day)

    def _stop_reading(self) -> None:
        connection, self._reading = self._reading, None
        if connection is not None:
            connection.close()


def write(connection: sqlite3.Connection, entries: Sequence[Entry]) -> None:
    """Each row that is not there yet, and what it brings about, or nothing; its sums are the database's own doing.

    What is one statement is a transaction by itself: between two, the thread would have to wait for its turn among Python's.
    """
    rows = [msgspec.structs.astuple(entry)[:-1] for entry in entries]
    completions = [entry for entry in entries if entry.completion is not None]
    if not completions and len(rows) * len(COLUMNS) <= connection.getlimit(sqlite3.SQLITE_LIMIT_VARIABLE_NUMBER):
        with suppress(
            sqlite3.IntegrityError
        ):  # one of them is there already, which is so rare that all are tried first
            connection.execute(_adding(len(rows)), list(chain.from_iterable(rows)))
            return
    connection.execute("BEGIN IMMEDIATE")
    one = f"{_adding(1)} ON CONFLICT (entry) DO NOTHING"
    new = [entry for entry, row in zip(entries, rows, strict=True) if connection.execute(one, row).rowcount]
    now = int(time())
    for entry in new:
        if entry.completion is not None:
            connection.execute(COMPLETE, kept(entry.completion, now))
    connection.execute("COMMIT")


@cache
def _adding(rows: int) -> str:
    row = f"({', '.join('?' * len(COLUMNS))})"
    return f"INSERT INTO ledger ({', '.join(COLUMNS)}) VALUES {', '.join([row] * rows)}"  # noqa: S608  (our names)


def _forget(connection: sqlite3.Connection, before: int) -> int:
    """How many of the oldest rows were deleted. Since when all are there is said in the same transaction."""
    connection.execute("BEGIN IMMEDIATE")
    deleted = connection.execute(TOO_OLD, (before, AT_ONCE)).rowcount
    if deleted:
        connection.execute(REMEMBERED, (KEPT_SINCE, before))
    connection.execute("COMMIT")
    return deleted
