"""The spool: where the ledger's rows are durable until they are in the database, in a folder for each process.

`server.spool` names the folder that holds these; a process takes the first number that nobody has. A lock in each, which
goes with its process however that ends, says whether it is in use. What a process left behind is taken over by the next one
that starts. A row that is there twice does no harm: its unique entry is counted once.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from time import time

import msgspec

from rerankd.accounts import Entry
from rerankd.errors import BadSettings, StoreUnavailable
from rerankd.store.durable_file import PRIVATE
from rerankd.store.group_commit import GroupCommit
from rerankd.store.journal import DAMAGED, PRIVATE_FOLDER, Journal, Record
from rerankd.store.shipment import decode, encode

MOST_ROWS, MOST_BYTES = 5_000_000, 2 * 2**30
"""Beyond either, work is refused until the database is there again."""
MOST_PROCESSES = 64
TAKEN_AT_ONCE = 1000
TRIES = 3
COME_BACK = 5.0
LOCK, REJECTED = "lock", "rejected"


@dataclass(frozen=True, slots=True)
class Batch:
    """The oldest `rows`; and a mark: when the row `last` is through, so is all that was put up to `decided`."""

    rows: Sequence[Record]
    last: int
    decided: int


@dataclass(frozen=True, slots=True)
class Waiting:
    """What stands in the spool of one process; `damaged` is how many of its files are."""

    folder: Path
    rows: int
    rejected: int
    damaged: int

    @property
    def rejects(self) -> Path:
        """The rows that the database refused, a line of JSON each."""
        return self.folder / REJECTED


class Spool:
    """Raises `BadSettings` where its folder cannot be used, or every number is taken."""

    def __init__(self, folder: Path) -> None:
        self._all = folder
        self.folder, self._lock = _first_free(folder)
        try:
            self._journal = Journal(self.folder)
        except OSError as error:
            os.close(self._lock)
            raise BadSettings(f"The spool {folder} (server.spool) cannot be used: {error.strerror}.") from None
        self._commits = GroupCommit(self._journal, "ledger")

    async def open(self) -> None:
        """Takes over what other processes left behind. Raises `StoreUnavailable`."""
        await asyncio.to_thread(self._take_over)

    async def put(self, entry: Entry, *, others: bool = False) -> int:
        """Its sequence number, once it is on the disk. Raises `StoreUnavailable`."""
        self._admit()
        return await self._commits.put(encode(entry), others=others)

    def put_nowait(self, entry: Entry) -> int:
        """Its sequence number; it is written soon. Raises `StoreUnavailable`."""
        self._admit()
        return self._commits.put_nowait(encode(entry))

    async def next(self, most: int) -> Batch:
        decided = self._commits.decided  # before the last is looked at, which then is none of an earlier one
        last = self._journal.last
        try:
            return Batch(await asyncio.to_thread(self._journal.read, most), last, decided)
        except OSError as error:
            raise StoreUnavailable(f"The spool cannot be read: {error.strerror}.", retry_after=COME_BACK) from None

    def forget(self, rows: Sequence[Record]) -> None:
        """They are elsewhere now. That they are gone is not waited for: after a crash they are sent again."""
        with suppress(OSError):
            self._journal.release(rows[-1])

    def reject(self, row: Record, reason: str) -> None:
        """It stands in no other's way from now on, and is kept, as a line of JSON, for who looks into it.

        Raises `StoreUnavailable`.
        """
        line = msgspec.json.encode({"at": int(time() * 1000), "reason": reason, "entry": _understood(row.payload)})
        try:
            with open(self.folder / REJECTED, "ab", opener=_privately) as file:
                file.write(line + b"\n")
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise StoreUnavailable(f"A row cannot be put aside: {error.strerror}.", retry_after=COME_BACK) from None

    @property
    def rows(self) -> int:
        """How many wait, more or less, with those that are not written yet."""
        return self._commits.waiting + self._journal.waiting

    @property
    def healthy(self) -> bool:
        return self._commits.healthy and not self._full

    def close(self) -> None:
        """Writes what was put; blocks meanwhile."""
        self._commits.close()
        with suppress(OSError):
            self._journal.tidy()
        self._journal.close()
        os.close(self._lock)

    @property
    def _full(self) -> bool:
        return self._journal.waiting >= MOST_ROWS or self._journal.size >= MOST_BYTES

    def _admit(self) -> None:
        if self._full:
            raise StoreUnavailable("The database has been away for too long; try again later.", retry_after=COME_BACK)

    def _take_over(self) -> None:
        for other in _folders(self._all):
            if other != self.folder and other.exists():
                with _held(other) as free:
                    if free:
                        self._take(other)

    def _take(self, other: Path) -> None:
        """Into ours first, and only then out of theirs."""
        try:
            theirs = Journal(other)
            while rows := theirs.read(TAKEN_AT_ONCE):
                self._journal.append([row.payload for row in rows])
                theirs.release(rows[-1])
            theirs.tidy()
            theirs.close()
        except OSError as error:
            raise StoreUnavailable(f"What {other} holds cannot be read: {error.strerror}.", retry_after=1.0) from None


def waiting(folder: Path) -> list[Waiting]:
    """Of every process that has or had a spool here; it changes nothing. Raises `OSError`."""
    return [_waiting(one) for one in _folders(folder) if one.exists()]


def _waiting(folder: Path) -> Waiting:
    with closing(_opened(folder)) as journal:
        rows = journal.waiting
    rejected = folder / REJECTED
    lines = len(rejected.read_bytes().splitlines()) if rejected.exists() else 0
    return Waiting(folder, rows, lines, len(list(folder.glob(f"*{DAMAGED}"))))


def _opened(folder: Path) -> Journal:
    """To be looked at, beside the server that has it: a file may be released at that very moment."""
    for _ in range(TRIES):
        with suppress(FileNotFoundError):
            return Journal(folder)
    return Journal(folder)


def _folders(folder: Path) -> Iterator[Path]:
    for number in range(1, MOST_PROCESSES + 1):
        yield folder / str(number)


def _first_free(folder: Path) -> tuple[Path, int]:
    try:
        folder.mkdir(mode=PRIVATE_FOLDER, exist_ok=True)
        for one in _folders(folder):
            one.mkdir(mode=PRIVATE_FOLDER, exist_ok=True)
            lock = _locked(one)
            if lock is not None:
                return one, lock
    except OSError as error:
        raise BadSettings(f"The spool {folder} (server.spool) cannot be used: {error.strerror}.") from None
    raise BadSettings(f"The spool {folder} (server.spool) is in use by {MOST_PROCESSES} processes.")


def _locked(folder: Path) -> int | None:
    """What holds the lock until it is closed; None where another process does."""
    lock = os.open(folder / LOCK, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, PRIVATE)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(lock)
        return None
    return lock


@contextmanager
def _held(folder: Path) -> Iterator[bool]:
    lock = _locked(folder)
    try:
        yield lock is not None
    finally:
        if lock is not None:
            os.close(lock)


def _understood(payload: bytes) -> object:
    """One that is no `Entry` of this version is shown as it was written."""
    try:
        return msgspec.structs.asdict(decode(payload))
    except msgspec.DecodeError:
        return payload


def _privately(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_CLOEXEC, PRIVATE)
