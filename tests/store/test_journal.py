from __future__ import annotations

import errno
import logging
import os
import signal
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from zlib import crc32

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from rerankd.errors import BadSettings
from rerankd.store import journal as journal_module
from rerankd.store.journal import FILE_SIZE, RECORD, Journal, Record

SMALL = 256
"""Bytes of a file of a test, so that there are several of them soon."""
ALL = 1_000_000


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "journal"


@pytest.fixture
def small_files(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal_module, "FILE_SIZE", SMALL)


def rows(journal: Journal) -> list[bytes]:
    return [record.payload for record in journal.read(ALL)]


def numbered(count: int, first: int = 0) -> list[bytes]:
    return [f"row {number}".encode() * 3 for number in range(first, first + count)]


def files(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.rows"))


def flip(file: Path, at: int) -> None:
    data = bytearray(file.read_bytes())
    data[at] ^= 0x55
    file.write_bytes(data)


class Failing:
    """`os.pwrite` for a disk that fails: of the next writes it takes `taken` bytes each, as often as `times` says."""

    def __init__(self, times: int, taken: int = 0) -> None:
        self.times = times
        self._taken = taken
        self._write = os.pwrite

    def __call__(self, file: int, data: bytes, at: int) -> int:
        if not self.times:
            return self._write(file, data, at)
        self.times -= 1
        self._write(file, data[: self._taken], at)
        raise OSError(errno.EIO, os.strerror(errno.EIO))


class FailingSync:
    """`sync` for a disk that takes everything, and says afterwards that it may not have."""

    def __init__(self, times: int) -> None:
        self.times = times
        self._sync = journal_module.sync

    def __call__(self, file: int) -> None:
        self._sync(file)
        if self.times:
            self.times -= 1
            raise OSError(errno.EIO, os.strerror(errno.EIO))


class PowerLoss:
    """What a disk has that loses all that nobody waited for: of a file what it had at its last sync, and of the folder the
    names that it had at its own.
    """

    def __init__(self) -> None:
        self._contents: dict[int, bytes] = {}
        self._names: dict[str, int] = {}
        self._opened: dict[int, int] = {}

    def sync(self, file: int) -> None:
        found = os.fstat(file)
        if stat.S_ISDIR(found.st_mode):
            with os.scandir(file) as names:
                self._names = {one.name: one.inode() for one in names}
        else:
            self._contents[found.st_ino] = os.pread(file, found.st_size, 0)
            if found.st_ino not in self._opened:
                self._opened[found.st_ino] = os.dup(file)  # no other file has its number meanwhile

    def sync_all(self, folder: Path) -> None:
        self.forget()
        for path in (*folder.iterdir(), folder):
            file = os.open(path, os.O_RDONLY)
            self.sync(file)
            os.close(file)

    def leave(self, folder: Path) -> None:
        """In `folder`, what is there after it."""
        folder.mkdir(mode=0o700)
        for name, inode in self._names.items():
            (folder / name).write_bytes(self._contents.get(inode, b""))
        self.sync_all(folder)

    def forget(self) -> None:
        for file in self._opened.values():
            os.close(file)
        self._opened = {}
        self._contents = {}
        self._names = {}


@pytest.mark.usefixtures("small_files")
def test_what_was_appended_is_read_in_order_after_the_process_is_gone(folder: Path) -> None:
    journal = Journal(folder)
    for number in range(0, 60, 3):
        journal.append(numbered(3, number))
    assert len(files(folder)) > 5
    for again in (journal, Journal(folder)):  # the first was not closed
        assert rows(again) == numbered(60)
        assert [record.number for record in again.read(ALL)] == list(range(1, 61))
        assert (again.waiting, again.last) == (60, 60)


DYING = """
import os, signal, sys
from pathlib import Path
from rerankd.store.journal import Journal
journal = Journal(Path(sys.argv[1]))
for number in range(100):
    journal.append([b"%d" % number])
    os.write(1, b"%d " % number)
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_what_a_killed_process_has_said_is_there(folder: Path) -> None:
    done = subprocess.run([sys.executable, "-c", DYING, str(folder)], capture_output=True, check=False)
    assert done.returncode == -signal.SIGKILL
    assert rows(Journal(folder)) == done.stdout.split() == [b"%d" % number for number in range(100)]


@pytest.mark.usefixtures("small_files")
@pytest.mark.parametrize("released", [1, 7, 8, 9, 29, 30])
def test_what_was_released_is_gone_for_good_and_its_files_with_it(folder: Path, released: int) -> None:
    journal = Journal(folder)
    for number in range(30):
        journal.append(numbered(1, number))
    journal.release(journal.read(released)[-1])
    assert rows(journal) == rows(Journal(folder)) == numbered(30 - released, released)
    assert sum(int(file.stem, 16) <= released + 1 for file in files(folder)) == 1
    journal = Journal(folder)
    journal.append(numbered(1, 30))
    assert rows(journal) == numbered(31 - released, released)
    assert [record.number for record in journal.read(ALL)] == list(range(released + 1, 32))


@pytest.mark.usefixtures("small_files")
def test_where_nothing_waits_nothing_is_left_and_it_begins_anew(folder: Path) -> None:
    journal = Journal(folder)
    journal.append(numbered(30))
    journal.tidy()
    assert rows(journal) == numbered(30)  # that waits: it stays
    journal.release(journal.read(ALL)[-1])
    journal.tidy()
    journal.close()
    assert list(folder.iterdir()) == []
    journal = Journal(folder)
    journal.append(numbered(2))
    assert rows(journal) == rows(Journal(folder)) == numbered(2)


@pytest.mark.usefixtures("small_files")
@pytest.mark.parametrize("size", [0, 1, SMALL - 1, SMALL, 10 * SMALL + 1])
def test_a_record_of_any_size_is_kept(folder: Path, size: int) -> None:
    journal = Journal(folder)
    payloads = [b"before", b"\xff" * size, b"after"]
    for payload in payloads:
        journal.append([payload])
    journal.append(payloads)
    assert rows(journal) == rows(Journal(folder)) == payloads * 2


def test_files_are_their_owners_alone(folder: Path) -> None:
    before = os.umask(0)
    try:
        journal = Journal(folder)
        journal.append([b"secret"])
        journal.release(journal.read(1)[0])
    finally:
        os.umask(before)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert {stat.S_IMODE(file.stat().st_mode) for file in folder.iterdir()} == {0o600}
    assert len(list(folder.iterdir())) == 2


def test_a_file_of_another_version_is_refused_by_name_and_left_as_it_is(folder: Path) -> None:
    Journal(folder).append([b"row"])
    (file,) = files(folder)
    written = file.read_bytes().replace(b"rows 1", b"rows 2")
    file.write_bytes(written)
    with pytest.raises(BadSettings, match=file.name):
        Journal(folder)
    file.write_bytes(b"")
    with pytest.raises(BadSettings, match=file.name):
        Journal(folder)


def test_has_room_says_whether_a_record_needs_another_file(folder: Path) -> None:
    journal = Journal(folder)
    assert not journal.has_room(1)  # there is none yet
    journal.append([b"row"])
    fits = max(size for size in range(FILE_SIZE - 200, FILE_SIZE) if journal.has_room(size))
    journal.append([bytes(fits)])
    assert not journal.has_room(0)
    assert len(files(folder)) == 1
    journal.append([b""])
    assert len(files(folder)) == 2
    assert rows(Journal(folder)) == [b"row", bytes(fits), b""]


# A disk that fails.

BROKEN: list[Callable[[pytest.MonkeyPatch], Failing | FailingSync]] = [
    lambda patch: _patched(patch, Failing(1)),
    lambda patch: _patched(patch, Failing(1, taken=3)),
    lambda patch: _patched(patch, Failing(1, taken=50)),  # a whole record and a part of the next
    lambda patch: _patched(patch, Failing(1, taken=ALL)),
    lambda patch: _patched(patch, FailingSync(1)),
]


def _patched(patch: pytest.MonkeyPatch, failing: Failing | FailingSync) -> Failing | FailingSync:
    patch.setattr(*((journal_module, "sync") if isinstance(failing, FailingSync) else (os, "pwrite")), failing)
    return failing


@pytest.mark.parametrize("broken", BROKEN)
@pytest.mark.parametrize("before", [0, 2])
def test_a_batch_that_failed_is_never_read_and_the_next_one_is(
    folder: Path, before: int, broken: Callable[[pytest.MonkeyPatch], object], monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = Journal(folder)
    journal.append([b"first"])
    for number in range(before):
        journal.append(numbered(1, number))
    with monkeypatch.context() as patch:
        broken(patch)
        with pytest.raises(OSError, match="error"):
            journal.append(numbered(4, 100))
    kept = [b"first", *numbered(before)]
    assert rows(journal) == rows(Journal(folder)) == kept
    assert not journal.has_room(1)  # that file is not to be trusted
    journal.append([b"next", b"and another"])
    assert rows(journal) == rows(Journal(folder)) == [*kept, b"next", b"and another"]
    assert len(files(folder)) == 2
    assert [record.number for record in journal.read(ALL)] == list(range(1, len(kept) + 3))


@pytest.mark.parametrize("fail", [lambda: Failing(2, taken=ALL), lambda: FailingSync(2)])
def test_a_batch_that_failed_and_could_not_be_wiped_out_is_not_read_once_another_follows(
    folder: Path, fail: Callable[[], Failing | FailingSync], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same numbers are in two files: those of the first do not count, be they as whole as they may."""
    journal = Journal(folder)
    journal.append(numbered(2))
    with monkeypatch.context() as patch:
        failing = _patched(patch, fail())
        with pytest.raises(OSError, match="error"):
            journal.append(numbered(4, 100))
        assert not failing.times
    assert rows(journal) == numbered(2)
    journal.append(numbered(1, 2))
    journal.append(numbered(1, 3))
    assert rows(journal) == rows(Journal(folder)) == numbered(4)


@pytest.mark.usefixtures("small_files")
def test_a_file_for_which_there_is_no_space_leaves_nothing_and_is_made_when_there_is(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = Journal(folder)
    journal.append(numbered(5))
    before = sorted(folder.iterdir())
    write = os.pwrite

    def full(file: int, data: bytes, at: int) -> int:
        if not at:
            return write(file, data, at)
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, "pwrite", full)
        for _ in range(2):
            with pytest.raises(OSError, match="No space"):
                journal.append(numbered(10, 100))
    assert sorted(folder.iterdir()) == before
    assert rows(journal) == rows(Journal(folder)) == numbered(5)
    journal.append(numbered(10, 5))
    assert rows(journal) == rows(Journal(folder)) == numbered(15)


def test_a_folder_that_cannot_be_synced_acknowledges_nothing(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    journal = Journal(folder)
    fsync = os.fsync

    def of_files(file: int) -> None:
        if stat.S_ISDIR(os.fstat(file).st_mode):
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        fsync(file)

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", of_files)
        with pytest.raises(OSError, match="error"):
            journal.append([b"lost"])
    assert rows(journal) == rows(Journal(folder)) == []
    journal.append([b"kept"])
    assert rows(journal) == rows(Journal(folder)) == [b"kept"]


def test_a_power_loss_before_the_first_record_of_a_file_leaves_a_journal_that_opens(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = PowerLoss()

    def lost(_: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", disk.sync)
        patch.setattr(journal_module, "sync", lost)
        with pytest.raises(OSError, match="error"):
            Journal(folder).append([b"row"])
    left = folder.with_name("left")
    disk.leave(left)
    disk.forget()
    assert len(files(left)) == 1
    journal = Journal(left)
    assert rows(journal) == []
    journal.append([b"next"])
    assert rows(journal) == rows(Journal(left)) == [b"next"]


# A disk that damages what it has.


@pytest.fixture
def of_two_files(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Journal:
    """Eight rows in the first file, eight in the second."""
    journal = Journal(folder)
    journal.append(numbered(8))
    monkeypatch.setattr(journal_module, "FILE_SIZE", SMALL)
    journal._abandon(0)  # as after a failure
    journal.append(numbered(8, 8))
    assert len(files(folder)) == 2
    return journal


def where(file: Path, payload: bytes) -> int:
    return file.read_bytes().index(payload)


HEAD_OF_A_RECORD = journal_module.RECORD.size


@pytest.mark.parametrize("reopened", [False, True])
@pytest.mark.parametrize("damaged", [0, 3, 7, 8, 11])
@pytest.mark.parametrize("at", [0, -HEAD_OF_A_RECORD, -HEAD_OF_A_RECORD + 3, -HEAD_OF_A_RECORD + 4, -1])
def test_of_a_damaged_file_all_else_is_read_and_the_log_says_so_once_and_it_is_kept(
    of_two_files: Journal, folder: Path, reopened: bool, damaged: int, at: int, caplog: pytest.LogCaptureFixture
) -> None:
    """In a payload, in each end of its length, in its checksum, in its number."""
    file = files(folder)[damaged > 7]
    (payload,) = numbered(1, damaged)
    flip(file, where(file, payload) + at)
    spoilt = file.read_bytes()
    journal = Journal(folder) if reopened else of_two_files
    left = [row for row in numbered(16) if row != payload]
    for _ in range(2):
        assert rows(journal) == left
    journal.append(numbered(1, 16))
    found = journal.read(ALL)
    assert [record.payload for record in found] == [*left, *numbered(1, 16)]
    journal.release(found[-1])
    assert rows(journal) == []
    journal.tidy()
    journal.close()
    assert [record.levelno for record in caplog.records] == [logging.CRITICAL]
    assert str(file) in caplog.text
    (kept,) = folder.iterdir()
    assert kept.suffix == ".damaged"
    assert kept.read_bytes() == spoilt
    assert rows(Journal(folder)) == []


def test_a_file_of_which_nothing_can_be_read_stands_in_no_ones_way(
    of_two_files: Journal, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    first, second = files(folder)
    for file in (first, second):
        data = file.read_bytes()
        file.write_bytes(data[: journal_module.HEAD.size] + b"\xff" * (len(data) - journal_module.HEAD.size))
    assert rows(of_two_files) == []
    assert of_two_files.waiting == 0
    assert len(caplog.records) == 2
    of_two_files.append([b"next"])
    assert rows(of_two_files) == [b"next"]


def test_one_damaged_file_is_not_kept_in_the_place_of_another(folder: Path) -> None:
    for number in range(2):
        journal = Journal(folder)
        journal.append(numbered(3, 10 * number))
        (file,) = files(folder)
        flip(file, where(file, numbered(1, 10 * number + 1)[0]))
        journal.release(journal.read(ALL)[-1])
        journal.tidy()  # so that the next one begins with the same number
        journal.close()
    kept = [file.read_bytes() for file in folder.glob("*.damaged")]
    assert len(kept) == 2
    assert all(any(numbered(1, 10 * number)[0] in data for data in kept) for number in range(2))


# All of it at once.

PAYLOADS = st.lists(st.binary(max_size=40) | st.binary(min_size=SMALL // 2, max_size=2 * SMALL), min_size=1, max_size=6)


class Journals(RuleBasedStateMachine):
    """Whatever happens to a journal, against a list: nothing of it is lost, nothing else comes, and nothing comes twice but
    what was released when the mark was lost. Numbers are places in the list.
    """

    @initialize()
    def start(self) -> None:
        self.disk = PowerLoss()
        self.patch = pytest.MonkeyPatch()
        self.patch.setattr(journal_module, "FILE_SIZE", SMALL)
        self.patch.setattr(journal_module, "sync", self.disk.sync)
        self.patch.setattr(os, "fsync", self.disk.sync)
        self.all = TemporaryDirectory()
        self.folder = Path(self.all.name) / "0"
        self.appended: list[bytes] = []
        self.released = 0
        self.journal = Journal(self.folder)

    def teardown(self) -> None:
        self.patch.undo()
        self.disk.forget()
        self.journal.close()
        self.all.cleanup()

    def _reopen(self) -> None:
        self.journal.close()
        self.journal = Journal(self.folder)

    def _found_anew(self) -> list[Record]:
        """What is read may begin sooner than what was not released, and nothing is missing since."""
        found = self.journal.read(ALL)
        first = found[0].number if found else self.journal.last + 1
        assert first <= self.released + 1
        self.released = first - 1
        return found

    @invariant()
    def all_that_is_not_released_is_read(self) -> None:
        found = self.journal.read(ALL)
        assert [record.payload for record in found] == self.appended[self.released :]
        assert [record.number for record in found] == list(range(self.released + 1, len(self.appended) + 1))
        assert self.journal.waiting == len(found)

    @rule(payloads=PAYLOADS)
    def append(self, payloads: list[bytes]) -> None:
        self.journal.append(payloads)
        self.appended += payloads

    @rule(most=st.integers(1, 8), chosen=st.integers(0, 7))
    def release(self, most: int, chosen: int) -> None:
        found = self.journal.read(most)
        assert len(found) == min(most, len(self.appended) - self.released)
        if found:
            self.journal.release(found[chosen % len(found)])
            self.released += chosen % len(found) + 1

    @rule(payloads=PAYLOADS, taken=st.integers(0, 2 * SMALL), written=st.booleans())
    def append_and_fail(self, payloads: list[bytes], taken: int, written: bool) -> None:
        self.journal.append(payloads)  # so that it is this file's middle, and not that of the next one
        self.appended += payloads
        with pytest.MonkeyPatch.context() as patch:
            if written:
                patch.setattr(journal_module, "sync", _once(self.disk.sync))
            else:
                patch.setattr(os, "pwrite", Failing(1, taken))
            with pytest.raises(OSError, match="error"):
                self.journal.append(payloads)

    @rule()
    def end_and_start_again(self) -> None:
        self._reopen()

    @rule()
    def tidy_and_start_again(self) -> None:
        self.journal.tidy()
        if self.released == len(self.appended):
            self.released = 0
            self.appended = []
            self.disk.sync_all(self.folder)  # else what was released might come again
        self._reopen()

    @rule()
    def lose_power(self) -> None:
        self.journal.close()
        self.folder = self.folder.with_name(f"{int(self.folder.name) + 1}")
        self.disk.leave(self.folder)
        self.journal = Journal(self.folder)
        self._found_anew()

    @rule(garbage=st.binary(max_size=12), end=st.integers(0, 12))
    def lose_the_mark(self, garbage: bytes, end: int) -> None:
        mark = self.folder / "released"
        before = mark.read_bytes() if mark.exists() else b""
        mark.write_bytes(before[:end].ljust(end, b"\0")[: 12 - len(garbage)] + garbage)
        self.disk.sync_all(self.folder)
        self._reopen()
        self._found_anew()

    @rule(payloads=PAYLOADS, data=st.data(), beyond=st.sampled_from([b"\0", b"\xff", b"\0\0\0\1", b"\r\xfe\0"]))
    def tear_the_last_batch(self, payloads: list[bytes], data: st.DataObject, beyond: bytes) -> None:
        """A crash while it is written: of its bytes some are there, and beyond them whatever there is. Rows that are whole
        may count, and no other does.
        """
        before = {file: file.read_bytes() for file in files(self.folder)}
        self.journal.append(payloads)
        whole = files(self.folder)[-1].read_bytes()
        at = _where(before.get(files(self.folder)[-1]), whole)
        cut = data.draw(st.integers(at, len(whole)), "cut")
        files(self.folder)[-1].write_bytes(whole[:cut] + (beyond * len(whole))[: len(whole) - cut])
        self.disk.sync_all(self.folder)
        self._reopen()
        found = [record.payload for record in self._found_anew()]
        more = found[len(self.appended) - self.released :]
        assert more == payloads[: len(more)]
        self.appended += more


def _once(sync: Callable[[int], None]) -> Callable[[int], None]:
    failing = [True]

    def fail(file: int) -> None:
        sync(file)
        if failing:
            failing.clear()
            raise OSError(errno.EIO, os.strerror(errno.EIO))

    return fail


def _where(before: bytes | None, after: bytes) -> int:
    """Where a batch begins: after the head of a new file, or where the file had nothing yet."""
    if before is None or len(before) != len(after):
        return journal_module.HEAD.size
    return next((at for at, (old, new) in enumerate(zip(before, after, strict=True)) if old != new), len(after))


TestJournals = Journals.TestCase
TestJournals.settings = settings(max_examples=150, stateful_step_count=30, deadline=None)


def test_a_record_that_somebody_has_written_into_his_text_is_never_read(folder: Path) -> None:
    """The text of a row holds no byte 0, with which every number begins that a file has room for."""
    number = int.from_bytes(b"number:9", "big")
    text = b"text " + RECORD.pack(4, crc32(b"evil", crc32(b"number:9")), number) + b"evil"
    journal = Journal(folder)
    journal.append([b"first", text])
    journal.close()
    (file,) = files(folder)
    flip(file, file.read_bytes().index(b"text"))
    again = Journal(folder)
    assert (rows(again), again.last) == ([b"first"], 1)
    again.close()
