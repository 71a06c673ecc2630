from __future__ import annotations

import asyncio
import logging
import os
import signal
import stat
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import chain
from pathlib import Path
from threading import Barrier

import msgspec
import pytest

from rerankd.accounts import Entry
from rerankd.errors import BadSettings, StoreUnavailable
from rerankd.store import spool as spool_module
from rerankd.store.journal import Journal
from rerankd.store.shipment import decode
from rerankd.store.spool import Spool, waiting
from tests.store.entries import entry

ALL = 1_000_000


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "spool"


async def opened(folder: Path) -> Spool:
    spool = Spool(folder)
    await spool.open()
    return spool


async def put(spool: Spool, rows: Sequence[Entry]) -> None:
    await asyncio.gather(*map(spool.put, rows))


async def found(spool: Spool) -> list[Entry]:
    return [decode(row.payload) for row in (await spool.next(ALL)).rows]


async def left_behind(folder: Path, *rows: Sequence[Entry]) -> None:
    """By as many processes, each of which has ended in the meantime."""
    spools = [Spool(folder) for _ in rows]
    for spool, some in zip(spools, rows, strict=True):
        await put(spool, some)
    for spool in spools:
        spool.close()


def names(*several: Sequence[Entry]) -> list[str]:
    return sorted(row.entry for row in chain.from_iterable(several))


def there(folder: Path) -> dict[str, bytes | None]:
    return {str(path): path.read_bytes() if path.is_file() else None for path in folder.rglob("*")}


async def test_what_was_put_is_next_until_it_is_forgotten(folder: Path) -> None:
    spool = await opened(folder)
    rows = [entry(tokens=number) for number in range(5)]
    for row in rows:
        await spool.put(row)
    assert await found(spool) == rows
    batch = await spool.next(3)
    assert [decode(row.payload) for row in batch.rows] == rows[:3]
    spool.forget(batch.rows)
    assert (await found(spool), spool.rows) == (rows[3:], 2)
    spool.close()
    again = await opened(folder)
    assert await found(again) == rows[3:]
    again.close()


async def test_all_is_their_owners_alone(folder: Path) -> None:
    spool = await opened(folder)
    await put(spool, [entry()])
    batch = await spool.next(1)
    spool.reject(batch.rows[0], "DataError")
    for path in (folder, *folder.rglob("*")):
        assert stat.S_IMODE(path.stat().st_mode) == (0o700 if path.is_dir() else 0o600), path
    spool.close()


async def test_a_row_that_is_put_aside_is_kept_as_it_was(folder: Path) -> None:
    spool = await opened(folder)
    rows = [entry(error="名"), entry()]
    await put(spool, rows)
    for row in (await spool.next(ALL)).rows:
        spool.reject(row, "IntegrityError")
    (state,) = waiting(folder)
    assert state.rejected == 2
    kept = [msgspec.json.decode(line) for line in state.rejects.read_bytes().splitlines()]
    assert [(one["entry"], one["reason"]) for one in kept] == [
        (msgspec.structs.asdict(row), "IntegrityError") for row in rows
    ]
    spool.close()


async def test_a_row_that_is_put_aside_is_on_the_disk_before_it_is_forgotten(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spool = await opened(folder)
    row = entry()
    await spool.put(row)
    on_the_disk = [b""]
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", lambda _: on_the_disk.append((spool.folder / "rejected").read_bytes()))
        spool.reject((await spool.next(1)).rows[0], "DataError")
    assert row.entry.encode() in on_the_disk[-1]
    spool.close()


async def test_each_process_has_a_folder_and_one_in_use_is_left_alone(folder: Path) -> None:
    first, second = await opened(folder), await opened(folder)
    await put(first, [entry()])
    await put(second, [entry(), entry()])
    third = await opened(folder)
    assert [(state.folder.name, state.rows) for state in waiting(folder)] == [("1", 1), ("2", 2), ("3", 0)]
    assert (first.rows, second.rows, third.rows) == (1, 2, 0)
    for spool in (first, second, third):
        spool.close()


async def test_what_was_left_behind_is_taken_over(folder: Path) -> None:
    rows = [[entry() for _ in range(3 + number)] for number in range(4)]
    await left_behind(folder, *rows)
    spool = await opened(folder)
    assert names(await found(spool)) == names(*rows)
    assert [state.rows for state in waiting(folder)] == [18, 0, 0, 0]
    spool.close()


DYING = """
import asyncio, os, signal, sys
from pathlib import Path
from rerankd.store.spool import Spool
from tests.store.entries import entry

async def work():
    spools = [Spool(Path(sys.argv[1])) for _ in range(2)]
    for spool in spools:
        print((await spool.put(entry(entry=f"{spool.folder.name:0>32}"))), flush=True)

asyncio.run(work())
os.kill(os.getpid(), signal.SIGKILL)
"""


async def test_what_a_killed_process_had_is_taken_over_by_the_next(folder: Path) -> None:
    done = subprocess.run([sys.executable, "-c", DYING, str(folder)], capture_output=True, check=False)
    assert (done.returncode, done.stdout) == (-signal.SIGKILL, b"1\n1\n"), done.stderr
    spool = await opened(folder)
    assert [row.entry for row in await found(spool)] == [f"{1:032}", f"{2:032}"]
    spool.close()


@pytest.mark.parametrize("processes", [2, 8])
def test_of_processes_that_start_at_the_same_moment_each_row_is_taken_by_one(folder: Path, processes: int) -> None:
    rows = [[entry() for _ in range(4)] for _ in range(8)]
    asyncio.run(left_behind(folder, *rows))
    barrier = Barrier(processes)

    def start(_: int) -> Spool:
        barrier.wait()
        return asyncio.run(opened(folder))

    with ThreadPoolExecutor(processes) as threads:
        spools = list(threads.map(start, range(processes)))
    assert len({spool.folder for spool in spools}) == processes
    taken = [asyncio.run(found(spool)) for spool in spools]
    assert names(*taken) == names(*rows)
    for spool in spools:
        spool.close()


async def test_a_crash_while_taking_over_loses_nothing(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After the rows were written here, and before they were released there."""
    rows = [entry() for _ in range(6)]
    await left_behind(folder, [], rows)
    monkeypatch.setattr(spool_module, "TAKEN_AT_ONCE", 2)
    with monkeypatch.context() as patch:
        patch.setattr(Journal, "release", _fail)
        crashed = Spool(folder)
        with pytest.raises(StoreUnavailable, match="cannot be read"):
            await crashed.open()
        crashed.close()
    spool = await opened(folder)
    taken = await found(spool)
    assert set(names(taken)) == set(names(rows))
    assert len(taken) == len(rows) + 2  # the database counts an entry once
    spool.close()


def _fail(*_: object) -> None:
    raise OSError


async def test_rows_that_do_not_fit_are_refused_until_others_have_gone(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spool_module, "MOST_ROWS", 2)
    spool = await opened(folder)
    await put(spool, [entry(), entry()])
    assert not spool.healthy
    with pytest.raises(StoreUnavailable, match="too long") as caught:
        await spool.put(entry())
    assert caught.value.retry_after
    with pytest.raises(StoreUnavailable, match="too long"):
        spool.put_nowait(entry())
    spool.forget((await spool.next(1)).rows)
    assert spool.healthy
    await spool.put(entry())
    monkeypatch.setattr(spool_module, "MOST_ROWS", 100)
    assert spool.healthy
    monkeypatch.setattr(spool_module, "MOST_BYTES", 1)
    assert not spool.healthy
    spool.close()


async def test_looking_changes_nothing(folder: Path) -> None:
    """It may be another user who looks."""
    await left_behind(folder, [entry()], [])
    before = there(folder)
    assert [state.rows for state in waiting(folder)] == [1, 0]
    assert there(folder) == before
    assert waiting(folder / "none") == []


async def test_a_damaged_file_is_counted_and_the_other_rows_are_there(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    rows = [entry() for _ in range(3)]
    spool = await opened(folder)
    for row in rows:
        await spool.put(row)
    spool.close()
    (file,) = (folder / "1").glob("*.rows")
    file.write_bytes(file.read_bytes().replace(rows[1].entry.encode(), b"?" * 32))
    spool = await opened(folder)
    batch = await spool.next(ALL)
    assert [decode(row.payload) for row in batch.rows] == [rows[0], rows[2]]
    spool.forget(batch.rows)
    spool.close()
    assert [record.levelno for record in caplog.records] == [logging.CRITICAL]
    (state,) = waiting(folder)
    assert (state.rows, state.damaged) == (0, 1)


async def test_what_another_version_has_written_is_refused_by_name_and_left_alone(folder: Path) -> None:
    await left_behind(folder, [entry()], [entry()])
    (file,) = (folder / "2").glob("*.rows")
    file.write_bytes(file.read_bytes().replace(b"rows 1", b"rows 2"))
    before = file.read_bytes()
    spool = Spool(folder)
    with pytest.raises(BadSettings, match=file.name):
        await spool.open()
    spool.close()
    assert file.read_bytes() == before


async def test_what_cannot_be_used_is_said_at_once(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(BadSettings, match=r"\(server\.spool\) cannot be used: No such file or directory"):
        Spool(folder / "none" / "spool")
    monkeypatch.setattr(spool_module, "MOST_PROCESSES", 2)
    spools = [Spool(folder), Spool(folder)]
    with pytest.raises(BadSettings, match="in use by 2 processes"):
        Spool(folder)
    for spool in spools:
        spool.close()
    folder.chmod(0o700)
    file = folder.with_name("file")
    file.touch()
    with pytest.raises(BadSettings, match=r"\(server\.spool\) cannot be used"):
        Spool(file)
