"""The spool: the file in which the ledger's rows wait until they are in PostgreSQL, one file for each process.

`server.spool` names the first; a process that finds it in use takes the next, `-2`, `-3` and so on. A lock beside each file,
which goes with its process however that ends, says whether it is in use. What a process left behind is taken over by the
next one that starts. A row that is there twice does no harm: its unique entry is counted once.
"""

from __future__ import annotations

import fcntl
import os
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from time import time

import msgspec

from rerankd.accounts import Entry
from rerankd.errors import BadSettings, StoreUnavailable
from rerankd.store.durable_file import PRIVATE, open_durable
from rerankd.store.group_commit import GroupCommit

MOST_ROWS, MOST_BYTES = 5_000_000, 2**30
"""Beyond either, work is refused until the database is there again."""
MOST_PROCESSES = 64
COME_BACK = 5.0
TABLES = (
    "CREATE TABLE IF NOT EXISTS spool (number INTEGER PRIMARY KEY, entry BLOB NOT NULL)",
    "CREATE TABLE IF NOT EXISTS rejected (number INTEGER PRIMARY KEY, at INTEGER NOT NULL, reason TEXT NOT NULL, "
    "entry BLOB NOT NULL)",
)

encode = msgspec.msgpack.Encoder().encode
decode = msgspec.msgpack.Decoder(Entry).decode


@dataclass(frozen=True, slots=True)
class Row:
    number: int
    entry: bytes


@dataclass(frozen=True, slots=True)
class Batch:
    """The oldest `rows`; and a mark: when the row `last` is through, so is all that was put up to `decided`."""

    rows: Sequence[Row]
    last: int
    decided: int


@dataclass(frozen=True, slots=True)
class Waiting:
    """What stands in the spool of one process."""

    file: Path
    rows: int
    rejected: int


class Spool:
    """Raises `BadSettings` where its folder cannot be used, or every name is taken."""

    def __init__(self, first: Path) -> None:
        self.file, self._lock = _first_free(first)
        self._rows = self._bytes = 0
        self._commits = GroupCommit[bytes](self._open, self._write, "spool")
        self._first = first

    async def open(self) -> None:
        """Takes over what other processes left behind. Raises `StoreUnavailable`."""
        await self._commits.run(self._count)
        for other in _names(self._first):
            if other != self.file and other.exists():
                with _held(other) as free:
                    if free:
                        await self._commits.run(partial(_take_over, other))
        await self._commits.run(self._count)

    async def put(self, entry: Entry, *, others: bool = False) -> int:
        """Its sequence number, once it is on the disk. Raises `StoreUnavailable`."""
        self._admit()
        return await self._commits.put(encode(entry), others=others)

    def put_nowait(self, entry: Entry) -> int:
        """Its sequence number; it is written soon. Raises `StoreUnavailable`."""
        self._admit()
        return self._commits.put_nowait(encode(entry))

    async def next(self, most: int) -> Batch:
        return await self._commits.run(lambda connection: self._next(connection, most))

    async def forget(self, rows: Sequence[Row]) -> None:
        """They are elsewhere now. That they are gone is not waited for: after a crash they are sent again."""
        await self._commits.run(lambda connection: self._forget(connection, rows))

    async def reject(self, row: Row, reason: str) -> None:
        """It stands in no other's way from now on, and is kept for who looks into it."""
        await self._commits.run(lambda connection: _reject(connection, row, reason))

    @property
    def rows(self) -> int:
        """How many wait, more or less."""
        return self._rows

    @property
    def healthy(self) -> bool:
        return self._commits.healthy and not self._full

    def close(self) -> None:
        """Writes what was put; blocks meanwhile."""
        self._commits.close()
        os.close(self._lock)

    @property
    def _full(self) -> bool:
        return self._rows >= MOST_ROWS or self._bytes >= MOST_BYTES

    def _admit(self) -> None:
        if self._full:
            raise StoreUnavailable("The database has been away for too long; try again later.", retry_after=COME_BACK)

    # In the thread.

    def _open(self) -> sqlite3.Connection:
        connection = open_durable(self.file)
        for statement in TABLES:
            connection.execute(statement)
        return connection

    def _write(self, connection: sqlite3.Connection, entries: Sequence[bytes]) -> None:
        places = ", ".join(
            ["(?)"] * len(entries)
        )  # one statement, which is a transaction by itself: see `ledger.write`
        connection.execute(f"INSERT INTO spool (entry) VALUES {places}", entries)  # noqa: S608  (question marks)
        self._rows += len(entries)
        self._bytes += sum(map(len, entries))

    def _count(self, connection: sqlite3.Connection) -> None:
        self._rows, self._bytes = connection.execute(
            "SELECT count(*), coalesce(sum(length(entry)), 0) FROM spool"
        ).fetchone()

    def _next(self, connection: sqlite3.Connection, most: int) -> Batch:
        decided = self._commits.decided  # no commit is under way here, so it goes with the last number
        rows = connection.execute("SELECT number, entry FROM spool ORDER BY number LIMIT ?", (most,)).fetchall()
        last = connection.execute("SELECT coalesce(max(number), 0) FROM spool").fetchone()[0]
        if not rows:
            self._rows = self._bytes = 0
        return Batch([Row(*row) for row in rows], last, decided)

    def _forget(self, connection: sqlite3.Connection, rows: Sequence[Row]) -> None:
        connection.execute("PRAGMA synchronous = NORMAL")
        try:
            connection.execute("DELETE FROM spool WHERE number <= ?", (rows[-1].number,))
        finally:
            connection.execute("PRAGMA synchronous = FULL")
        self._rows -= len(rows)
        self._bytes -= sum(len(row.entry) for row in rows)


def waiting(first: Path) -> list[Waiting]:
    """Of every process that has or had a spool here; it only reads. Raises `sqlite3.Error`."""
    return [_waiting(file) for file in _names(first) if file.exists()]


def _waiting(file: Path) -> Waiting:
    with closing(sqlite3.connect(f"{file.absolute().as_uri()}?mode=ro", uri=True)) as connection:
        tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master")}
        counts = [
            connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0] if table in tables else 0  # noqa: S608
            for table in ("spool", "rejected")
        ]
    return Waiting(file, *counts)


def _names(first: Path) -> Iterator[Path]:
    yield first
    for number in range(2, MOST_PROCESSES + 1):
        yield first.with_name(f"{first.stem}-{number}{first.suffix}")


def _first_free(first: Path) -> tuple[Path, int]:
    try:
        for file in _names(first):
            lock = _locked(file)
            if lock is not None:
                return file, lock
    except OSError as error:
        raise BadSettings(f"The spool {first} (server.spool) cannot be used: {error.strerror}.") from None
    raise BadSettings(f"The spool {first} (server.spool) is in use by {MOST_PROCESSES} processes.")


def _locked(file: Path) -> int | None:
    """What holds the lock until it is closed; None where another process does."""
    lock = os.open(file.with_name(f"{file.name}.lock"), os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, PRIVATE)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(lock)
        return None
    return lock


class _held:  # noqa: N801  (it is used as a word: with _held(file) as free)
    def __init__(self, file: Path) -> None:
        self._file = file

    def __enter__(self) -> bool:
        self._lock = _locked(self._file)
        return self._lock is not None

    def __exit__(self, *_: object) -> None:
        if self._lock is not None:
            os.close(self._lock)


def _take_over(other: Path, connection: sqlite3.Connection) -> None:
    """Into ours first, and only then out of theirs."""
    with closing(open_durable(other)) as theirs:
        for statement in TABLES:
            theirs.execute(statement)
        for table, columns in (("spool", "entry"), ("rejected", "at, reason, entry")):
            rows = theirs.execute(f"SELECT {columns} FROM {table} ORDER BY number").fetchall()  # noqa: S608
            if rows:
                places = ", ".join("?" * len(rows[0]))
                connection.execute("BEGIN IMMEDIATE")
                connection.executemany(f"INSERT INTO {table} ({columns}) VALUES ({places})", rows)  # noqa: S608
                connection.execute("COMMIT")
                theirs.execute(f"DELETE FROM {table}")  # noqa: S608


def _reject(connection: sqlite3.Connection, row: Row, reason: str) -> None:
    connection.execute("BEGIN IMMEDIATE")
    values = (int(time() * 1000), reason, row.entry)
    connection.execute("INSERT INTO rejected (at, reason, entry) VALUES (?, ?, ?)", values)
    connection.execute("DELETE FROM spool WHERE number = ?", (row.number,))
    connection.execute("COMMIT")
