"""A journal: records in files of a folder, on the disk when `append` returns, and read back in their order after any crash.

A file is full of zeros before its first record, so that writing one changes nothing but its blocks; it is written once, from
front to end. Records are numbered without gaps, and each has a checksum over its number and its bytes. One that a crash cut
short, or whose writing failed, is no record: the next file begins with its number, and what the file before holds from that
number on does not count. What was released is forgotten, a file at a time.
"""

from __future__ import annotations

import errno
import logging
import os
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from contextlib import suppress
from itertools import chain, count, islice
from pathlib import Path
from struct import Struct
from threading import Lock
from typing import NamedTuple
from zlib import crc32

from rerankd.errors import BadSettings
from rerankd.store.durable_file import PRIVATE

log = logging.getLogger("rerankd.store")

FILE_SIZE = 4 * 2**20
MAGIC = b"rerankd rows 1\n\0"
HEAD = Struct(">16sQ")
"""Of a file: what it is, and the number of its first record."""
RECORD = Struct(">IIQ")
"""Of a record: how many bytes it has, their checksum, its number."""
MARK = Struct(">QI")
"""The number up to which everything was released, and its checksum."""
ENDING, DAMAGED, MARK_NAME, NEXT_NAME = ".rows", ".damaged", "released", "next"
PRIVATE_FOLDER = 0o700
CLOSED = -1
"""No file has this number, so that what comes late is written into none."""

sync = getattr(os, "fdatasync", os.fsync)


class Place(NamedTuple):
    """Where the record of a number begins, or will: in which file (by its first number), and how far from its start."""

    first: int
    offset: int
    number: int


class Record(NamedTuple):
    payload: bytes
    after: Place

    @property
    def number(self) -> int:
        return self.after.number - 1


class Journal:
    """One process has the folder at a time, which is its caller's to see to. Another thread may append than reads."""

    def __init__(self, folder: Path) -> None:
        """Makes the folder where it is not there, for its owner alone.

        Raises `OSError`, and `BadSettings` where a file in it is of another version.
        """
        folder.mkdir(mode=PRIVATE_FOLDER, exist_ok=True)
        self._folder = folder
        self._firsts = _firsts(folder)
        self._lock = Lock()  # of this list
        self._damaged: set[int] = set()
        self._file: int | None = None
        self._at = self._size = 0
        self._mark: int | None = None
        first = self._firsts[0] if self._firsts else 1
        released = max(_marked(folder / MARK_NAME), first - 1)
        if self._firsts:
            _sync(self._path(self._firsts[-1]))  # what is read from now on was perhaps never synced
        self.last = max(released, self._last_there())
        """The number of the last record that is on the disk."""
        self._next = self._found(released + 1)

    @property
    def waiting(self) -> int:
        """Records that were not released."""
        return self.last + 1 - self._next.number

    @property
    def size(self) -> int:
        """Bytes of all files, more or less."""
        return len(self._firsts) * FILE_SIZE

    def has_room(self, size: int) -> bool:
        """Whether a record of so many bytes goes into the file that is being written: making another takes a while."""
        return self._file is not None and self._at + RECORD.size + size <= self._size

    def append(self, payloads: Sequence[bytes]) -> None:
        """All of them, or none: then it raises `OSError`."""
        data = b"".join([_framed(payload, self.last + place) for place, payload in enumerate(payloads, 1)])
        file = self._file
        if file is None or self._at + len(data) > self._size:
            file = self._begun(len(data))
        try:
            _write(file, data, self._at)
            sync(file)
        except OSError:
            self._abandon(len(data))
            raise
        self._at += len(data)
        self.last += len(payloads)

    def read(self, most: int) -> list[Record]:
        """The oldest that were not released. What is damaged is told in the log and left out. Raises `OSError`."""
        last = self.last
        found = list(islice(self._records(self._next, last), most))
        if not found and self._next.number <= last:  # there was more, and nothing of it can be read
            self._next = self._found(last + 1)
        return found

    def release(self, record: Record) -> None:
        """It and those before it are elsewhere now. That is not waited for: after a crash some may be read again."""
        self._next = record.after
        if self._mark is None:  # who only looks makes no file
            self._mark = os.open(self._folder / MARK_NAME, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, PRIVATE)
        os.pwrite(self._mark, MARK.pack(record.number, _checksum(record.number, b"")), 0)
        self._forget()

    def tidy(self) -> None:
        """Where nothing waits, nothing is left but what is damaged."""
        if not self.waiting:
            self._let_go()
            for first in self._firsts:
                self._drop(first)
            (self._folder / MARK_NAME).unlink(missing_ok=True)

    def close(self) -> None:
        self._let_go()
        mark, self._mark = self._mark, CLOSED
        if mark is not None and mark != CLOSED:
            os.close(mark)

    def _begun(self, size: int) -> int:
        """Another file, full of zeros, whose first record is the next."""
        first = self.last + 1
        self._let_go()
        new = self._folder / NEXT_NAME
        file = os.open(new, os.O_CREAT | os.O_TRUNC | os.O_RDWR | os.O_CLOEXEC, PRIVATE)
        try:
            self._size = max(FILE_SIZE, HEAD.size + size)
            _fill(file, HEAD.pack(MAGIC, first), self._size)
            new.rename(self._path(first))
            _sync(self._folder)
        except OSError:
            os.close(file)
            new.unlink(missing_ok=True)
            raise
        with self._lock:
            if first not in self._firsts:  # else what was in it does not count
                self._firsts = [*self._firsts, first]
        self._file, self._at = file, HEAD.size
        return file

    def _abandon(self, size: int) -> None:
        """After a failure nobody knows what is on the disk: it is wiped out, if that can be, and the file not used again."""
        with suppress(OSError):
            if self._file is not None:
                _write(self._file, bytes(size), self._at)
                sync(self._file)
        self._let_go()

    def _let_go(self) -> None:
        file, self._file = self._file, None
        if file is not None:
            os.close(file)

    def _forget(self) -> None:
        """Files that are released whole, but the one that is being written."""
        while len(self._firsts) > 1 and self._firsts[1] <= self._next.number:
            self._drop(self._firsts[0])
            with self._lock:
                self._firsts = self._firsts[1:]

    def _drop(self, first: int) -> None:
        path = self._path(first)
        with suppress(OSError):
            path.rename(_aside(path)) if first in self._damaged else path.unlink()

    def _path(self, first: int) -> Path:
        return self._folder / f"{first:016x}{ENDING}"

    # Reading.

    def _records(self, place: Place, last: int) -> Iterator[Record]:
        """From a place on, through all files, up to the number `last`."""
        while place.number <= last:
            if place.number in self._firsts:
                place = Place(place.number, HEAD.size, place.number)
            stop = min(self._end_of(place.first), last + 1)
            for record in _read(self._path(place.first), place, stop):
                yield record
                place = record.after
            if place.number < stop:
                place = self._past_damage(place, stop)

    def _past_damage(self, place: Place, stop: int) -> Place:
        """Where reading goes on in a file whose next record cannot be read."""
        path = self._path(place.first)
        further = _search(path, place, stop) or place._replace(number=stop)
        if place.first not in self._damaged:
            self._damaged.add(place.first)
            log.critical("%s is damaged: rows of the ledger are lost; what is left of the file is kept", path)
        return further

    def _end_of(self, first: int) -> int:
        """The first number after a file."""
        after = bisect_right(self._firsts, first)
        return self._firsts[after] if after < len(self._firsts) else self.last + 1

    def _found(self, number: int) -> Place:
        """The place of a number, which may be the one after the last."""
        before = bisect_right(self._firsts, number) - 1
        if before < 0:
            return Place(number, HEAD.size, number)
        place = Place(self._firsts[before], HEAD.size, self._firsts[before])
        for record in self._records(place, number - 1):
            place = record.after
        return place if place.number == number else place._replace(number=number)

    def _last_there(self) -> int:
        """The number of the last record of the last file."""
        if not self._firsts:
            return 0
        first = self._firsts[-1]
        place: Place | None = Place(first, HEAD.size, first)
        last = first - 1
        while place is not None:
            for record in _read(self._path(first), place, 2**64):
                last, place = record.number, record.after
            place = _search(self._path(first), place, 2**64)  # whole ones may follow where the disk has damaged one
        return last


def _framed(payload: bytes, number: int) -> bytes:
    return RECORD.pack(len(payload), _checksum(number, payload), number) + payload


def _checksum(number: int, payload: bytes) -> int:
    return crc32(payload, crc32(number.to_bytes(8, "big")))


def _read(path: Path, place: Place, stop: int) -> Iterator[Record]:
    """Records of one file from a place on, to one before `stop`, or as far as they are whole."""
    with path.open("rb") as file:
        file.seek(place.offset)
        while place.number < stop:
            head = file.read(RECORD.size)
            if len(head) < RECORD.size:
                return
            size, checksum, number = RECORD.unpack(head)
            payload = file.read(size) if number == place.number else b""
            if number != place.number or len(payload) < size or _checksum(number, payload) != checksum:
                return
            place = Place(place.first, place.offset + RECORD.size + size, number + 1)
            yield Record(payload, place)


def _search(path: Path, place: Place, stop: int) -> Place | None:
    """The next whole record after one that cannot be read; None where there is none, as after one that a crash cut short.

    No number is looked for that the file has no room for: such a one begins with bytes 0, and no text of a row holds any, so
    that nobody can have written a record into what is one of his.
    """
    data = path.read_bytes()[place.offset :]
    stop = min(stop, place.number + len(data) // RECORD.size + 1)
    for offset in range(1, min(len(data.rstrip(b"\0")), len(data) - RECORD.size)):
        size, checksum, number = RECORD.unpack_from(data, offset)
        if place.number < number < stop:
            payload = data[offset + RECORD.size : offset + RECORD.size + size]
            if len(payload) == size and _checksum(number, payload) == checksum:
                return Place(place.first, place.offset + offset, number)
    return None


def _firsts(folder: Path) -> list[int]:
    """The first numbers of all files, in their order."""
    found = sorted(path for path in folder.iterdir() if path.suffix == ENDING)
    for path in found:
        with path.open("rb") as file:
            head = file.read(HEAD.size)
        if len(head) < HEAD.size or HEAD.unpack(head) != (MAGIC, int(path.stem, 16)):
            raise BadSettings(f"{path} was not written by this version of rerankd; move it elsewhere (server.spool).")
    return [int(path.stem, 16) for path in found]


def _aside(path: Path) -> Path:
    """Where a damaged file is kept: beside those that are there, for numbers may have begun anew since."""
    names = chain([path.stem], (f"{path.stem}-{again}" for again in count(2)))
    return next(one for name in names if not (one := path.with_name(name + DAMAGED)).exists())


def _marked(mark: Path) -> int:
    """0 where nothing is, or nothing whole."""
    try:
        said = mark.read_bytes()[: MARK.size]
    except FileNotFoundError:
        return 0
    if len(said) < MARK.size:
        return 0
    number, checksum = MARK.unpack(said)
    return int(number) if _checksum(number, b"") == checksum else 0


def _write(file: int, data: bytes, at: int) -> None:
    if os.pwrite(file, data, at) < len(data):
        raise OSError(errno.EIO, "the disk took a part of it")


def _fill(file: int, head: bytes, size: int) -> None:
    """A head and zeros, on the disk: where there is no space, this is where it fails."""
    os.pwrite(file, head, 0)
    zeros = bytes(2**16)
    at = len(head)
    while at < size:
        at += os.pwrite(file, zeros[: size - at], at)
    os.fsync(file)


def _sync(path: Path) -> None:
    """A file, or the names in a folder."""
    opened = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)
