from __future__ import annotations

import asyncio
import errno
import os
import subprocess
import sys
import time
from base64 import b64decode
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from threading import Event
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from sqlalchemy import text

from rerankd.accounts import Completion, Entry, Spent
from rerankd.errors import BadSettings, RerankError, StoreUnavailable
from rerankd.store import ledger as ledger_module
from rerankd.store import shipment, sqlite
from rerankd.store.database import Database
from rerankd.store.idempotency import InDatabase, StoredClaims
from rerankd.store.journal import Journal, Record
from rerankd.store.ledger import KEPT_SINCE, StoredLedger
from rerankd.store.shipment import COLUMNS
from rerankd.store.spool import Spool, waiting
from rerankd.store.sums import SumKey, Sums
from rerankd.store.tables import LEDGER, USAGE
from tests.store.adding import sums_of
from tests.store.entries import DAY_MS, entries, entry
from tests.store.postgres_server import PostgresServer

SOON = 20.0


@pytest.fixture
def spool(tmp_path: Path) -> Path:
    return tmp_path / "spool"


@asynccontextmanager
async def ledger(url: str, spool: Path) -> AsyncIterator[StoredLedger]:
    here = StoredLedger(Database(url), spool)
    await here.open()
    try:
        yield here
    finally:
        await here.stop()
        here.close()


async def dies(spool: Path, rows: Sequence[Entry]) -> None:
    """A process writes the rows, and ends before it has sent them: all that it leaves is its folder."""
    here = Spool(spool)
    await here.open()
    for row in rows:
        await here.put(row)
    here.close()


async def found(url: str, statement: str, **values: object) -> list[tuple[Any, ...]]:
    database = Database(url)
    async with database.transaction(insist=True) as connection:
        rows = [tuple(row) for row in await connection.execute(text(statement), values)]
    await database.close()
    return rows


async def kept(url: str) -> list[tuple[Any, ...]]:
    return sorted(await found(url, f"SELECT {', '.join(COLUMNS)} FROM ledger"))  # noqa: S608


async def sums(url: str) -> list[tuple[Any, ...]]:
    return sorted(await found(url, "SELECT * FROM usage"))


def as_kept(rows: Sequence[Entry]) -> list[tuple[Any, ...]]:
    return sorted(tuple(getattr(row, name) for name in COLUMNS) for row in rows)


def as_summed(rows: Sequence[Entry]) -> list[tuple[Any, ...]]:
    return sorted((*key, *added) for key, added in sums_of(rows).items())


async def exactly(url: str, rows: Sequence[Entry]) -> None:
    assert await kept(url) == as_kept(rows)
    assert await sums(url) == as_summed(rows)


def states(spool: Path) -> list[tuple[int, int]]:
    return [(each.rows, each.rejected) for each in waiting(spool)]


HOLDING = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute("BEGIN IMMEDIATE")
print("held", flush=True)
sys.stdin.readline()
connection.execute("ROLLBACK")
"""


@contextmanager
def held(url: str) -> Iterator[None]:
    """Another process has SQLite's only lock for writing."""
    file = url.removeprefix("sqlite:///")
    command = [sys.executable, "-c", HOLDING, file]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        yield
        process.stdin.write("\n")
        process.stdin.flush()


@contextmanager
def standing_still(url: str, request: pytest.FixtureRequest) -> Iterator[None]:
    """The database of either kind answers nobody who would write."""
    if url.startswith("sqlite"):
        with held(url):
            yield
    else:
        server: PostgresServer = request.getfixturevalue("postgres_server")
        server.pause()
        yield
        server.resume()


def test_the_columns_are_those_of_the_tables() -> None:
    assert {"number", *COLUMNS} == set(LEDGER.columns.keys())
    assert Entry.__struct_fields__ == (*COLUMNS, "completion")
    assert tuple(USAGE.columns.keys()) == (*SumKey._fields, *Sums._fields)


# Rows and their sums.


async def test_a_row_is_in_the_database_soon_with_all_that_an_entry_has_and_its_sums(
    database_url: str, spool: Path
) -> None:
    rows = [
        entry(
            estimated=True, error="e", attempts=2, total_us=9, queue_us=1, price_tokens=5, kind="adjust", reference="r"
        ),
        entry(status=502, model="名\"'\\", tokens=2**40),
    ]
    async with ledger(database_url, spool) as here:
        sequences = [await here.record(row) for row in rows]
        assert sequences == [1, 2]
        assert await here.settled(SOON)
        assert (here.visible, here.waiting) == (2, 0)
    await exactly(database_url, rows)


async def test_a_row_gets_there_without_anybody_asking(database_url: str, spool: Path) -> None:
    async with ledger(database_url, spool) as here:
        sequence = await here.record(entry())
        async with asyncio.timeout(SOON):
            while here.visible < sequence:
                await asyncio.sleep(0.01)
        assert (await here.spent("k1")).total == 100


async def test_an_entry_that_comes_twice_is_one_row_and_counts_once(database_url: str, spool: Path) -> None:
    twice, new = entry(), entry()
    async with ledger(database_url, spool) as here:
        await here.record(twice)
        assert await here.settled(SOON)
        await asyncio.gather(here.record(twice), here.record(new), here.record(twice), here.record(new))
    await exactly(database_url, [twice, new])


async def test_what_is_noted_is_written_without_anybody_waiting(
    database_url: str, spool: Path, caplog: pytest.LogCaptureFixture
) -> None:
    row = entry(status=502)
    async with ledger(database_url, spool) as here:
        here.note(row)
    here.note(entry())  # it is closed: the row is lost, and nothing is raised into the request
    assert "is lost" in caplog.text
    await exactly(database_url, [row])


async def test_settled_waits_for_what_was_noted_and_is_not_written_yet(
    database_url: str, spool: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else an answer that says what was used would leave out the request that has just failed."""
    go = Event()
    append = Journal.append

    def slow(self: Journal, payloads: Sequence[bytes]) -> None:
        assert go.wait(SOON)
        append(self, payloads)

    row = entry(status=502)
    async with ledger(database_url, spool) as here:
        assert await here.settled(SOON)
        monkeypatch.setattr(Journal, "append", slow)
        here.note(row)
        settling = asyncio.create_task(here.settled(SOON))
        for _ in range(5):
            await asyncio.sleep(0)
        settled_at_once = settling.done()
        go.set()
        assert await settling
        assert not settled_at_once
        await exactly(database_url, [row])


async def test_what_is_visible_is_in_the_sums_at_every_moment(
    database_url: str, spool: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ledger_module, "AT_ONCE", 20)  # so that what was recorded together is not sent together
    sampled = asyncio.Event()

    async def recorded(here: StoredLedger) -> None:
        for number in range(20):
            await asyncio.gather(*(here.record(entry(tokens=1)) for _ in range(100)))
            if number % 5 == 0:
                assert await here.settled(SOON)
                sampled.clear()
                await sampled.wait()

    async with ledger(database_url, spool) as here:
        await here.spent("k1")
        recording = asyncio.create_task(recorded(here))
        seen = set()
        while not recording.done() or here.visible < 2000:
            visible = here.visible
            assert (await here.spent("k1")).total >= visible
            seen.add(visible)
            sampled.set()
            await asyncio.sleep(0.002)
        assert (await here.spent("k1")).total == 2000
    assert len(seen) > 3, seen


@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=entries())
async def test_the_sums_are_those_of_the_rows(database_url: str, spool: Path, rows: list[Entry]) -> None:
    for table in ("ledger", "usage"):
        await found(database_url, f"DELETE FROM {table} RETURNING 1")  # noqa: S608
    async with ledger(database_url, spool) as here:
        for row in [*rows, *rows[:3]]:  # some twice
            here.note(row)
        assert await here.settled(SOON)
    await exactly(database_url, list({row.entry: row for row in rows}.values()))


async def test_spent_is_what_was_recorded_in_all_this_month_and_today(database_url: str, spool: Path) -> None:
    now = datetime.now(UTC)
    today = int(now.timestamp() * 1000)
    this_month = int(now.replace(day=1, hour=0, minute=0, second=0, microsecond=0).timestamp() * 1000)
    async with ledger(database_url, spool) as here:
        assert await here.spent("k1") == Spent()
        await asyncio.gather(
            here.record(entry(at=today, tokens=1)),
            here.record(entry(at=today, tokens=10, model="another")),
            here.record(entry(at=this_month - 1, tokens=100)),
            here.record(entry(at=today, tokens=-2, kind="adjust")),
            here.record(entry(at=today, tokens=1000, key_id="k2")),
        )
        assert await here.settled(SOON)
        assert await here.spent("k1") == Spent(total=109, month=9, day=9)
        before = await here.spent("k2")
        await here.record(entry(at=this_month, tokens=7, key_id="k2"))
        assert await here.settled(SOON)
        assert (await here.spent("k2")).month == before.month + 7


async def test_an_answer_is_kept_with_the_row_that_it_cost(database_url: str, spool: Path) -> None:
    claims = StoredClaims(InDatabase(Database(database_url)))
    assert await claims.claim("k1", "one", b"asked", "me", 60.0) is None
    assert await claims.claim("k1", "two", b"asked", "me", 60.0) is None
    done = Completion(key_id="k1", idempotency_key="one", holder="me", response=b"\0answer")
    others = Completion(key_id="k1", idempotency_key="two", holder="somebody else", response=b"late")
    async with ledger(database_url, spool) as here:
        await here.record(entry(completion=done))
        await here.record(entry(completion=others))
        assert await here.settled(SOON)
    assert await claims.claim("k1", "one", b"asked", "another", 60.0) == b"\0answer"
    kept = dict(await found(database_url, "SELECT idempotency_key, response FROM idempotency"))
    assert kept == {"one": b"\0answer", "two": None}
    ((expires,),) = await found(database_url, "SELECT expires FROM idempotency WHERE idempotency_key = 'one'")
    assert abs(expires - time.time() - 86400) < 60


async def test_old_rows_go_by_whole_days_a_few_at_once_and_the_sums_stay(
    database_url: str, spool: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ledger_module, "FORGET_AT_ONCE", 2)
    midnight = int(time.time() * 1000) // DAY_MS * DAY_MS
    old = [entry(at=midnight - 30 * DAY_MS - 1 - number) for number in range(5)]
    young = [entry(at=midnight - 30 * DAY_MS), entry(at=midnight)]
    since = "SELECT number FROM facts WHERE name = :name"
    async with ledger(database_url, spool) as here:
        await asyncio.gather(*map(here.record, [*old, *young]))
        assert await here.settled(SOON)
        assert await here.forget(30) == 5
        assert await here.forget(30) == 0
        assert await found(database_url, since, name=KEPT_SINCE) == [(midnight - 30 * DAY_MS,)]
        assert await here.forget(400) == 0
        assert await found(database_url, since, name=KEPT_SINCE) == [(midnight - 30 * DAY_MS,)]
        assert (await here.spent("k1")).total == 700
    assert await kept(database_url) == as_kept(young)
    assert await sums(database_url) == as_summed([*old, *young])


# A database that is slow, away, or comes back.


async def test_nobody_waits_for_a_database_that_stands_still_and_nothing_is_lost(
    database_url: str, spool: Path, request: pytest.FixtureRequest
) -> None:
    rows = [entry() for _ in range(400)]
    async with ledger(database_url, spool) as here:
        await here.record(rows[0])
        assert await here.settled(SOON)
        with standing_still(database_url, request):
            for row in rows[1:100]:
                await here.record(row)
            await asyncio.gather(*map(here.record, rows[100:]))
            assert (here.waiting, here.visible) == (399, 1)
            assert not await here.settled(0.01)
            assert here.healthy
        assert await here.settled(SOON)
        assert (here.waiting, here.visible) == (0, 400)
    await exactly(database_url, rows)


async def test_a_lock_that_is_held_for_longer_than_one_waits_for_it_is_waited_for_again(
    tmp_path: Path, spool: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = f"sqlite:///{tmp_path / 'rerankd.db'}"
    monkeypatch.setattr(sqlite, "PRAGMAS", ("busy_timeout = 1", *sqlite.PRAGMAS[1:]))
    tries = 0
    ship = ledger_module.StoredLedger._send

    async def counted(self: StoredLedger, rows: Sequence[Record]) -> None:
        nonlocal tries
        tries += 1
        await ship(self, rows)

    monkeypatch.setattr(StoredLedger, "_send", counted)
    rows = [entry() for _ in range(20)]
    async with ledger(url, spool) as here:
        await here.spent("k1")
        with held(url):
            await asyncio.gather(*map(here.record, rows))
            async with asyncio.timeout(SOON):
                while tries < 3:
                    await asyncio.sleep(0.01)
            assert (await here.spent("k1")).total == 0  # who reads does not wait for who writes
            assert here.visible == 0
        assert await here.settled(SOON)
    await exactly(url, rows)


async def test_a_database_that_is_killed_under_load_gets_every_row_once(
    postgres_server: PostgresServer, postgres_url: str, spool: Path
) -> None:
    rows: list[Entry] = []
    async with ledger(postgres_url, spool) as here:
        for _ in range(4):
            for _ in range(3):
                some = [entry() for _ in range(400)]
                await asyncio.gather(*map(here.record, some))
                rows += some
            postgres_server.kill()
            some = [entry() for _ in range(50)]
            await asyncio.gather(*map(here.record, some))
            rows += some
            await asyncio.to_thread(postgres_server.start)
        assert await here.settled(SOON)
    await exactly(postgres_url, rows)


async def test_a_start_without_the_server_serves_and_sends_later(
    postgres_server: PostgresServer, postgres_url: str, spool: Path
) -> None:
    left = [entry() for _ in range(3)]
    await dies(spool, left)
    postgres_server.kill()
    async with ledger(postgres_url, spool) as here:
        fresh = entry()
        await here.record(fresh)
        assert (here.waiting, here.visible) == (4, 0)
        with pytest.raises(StoreUnavailable):
            await here.spent("k1")
        await asyncio.to_thread(postgres_server.start)
        assert await here.settled(SOON)
    await exactly(postgres_url, [*left, fresh])


async def test_a_start_without_a_file_that_can_be_used_keeps_rows_until_there_is_one(
    tmp_path: Path, spool: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = tmp_path / "rerankd.db"
    file.write_bytes(b"something else " * 100)
    row = entry()
    async with ledger(f"sqlite:///{file}", spool) as here:
        await here.record(row)
        with pytest.raises(RerankError):  # and it is no zero
            await here.spent("k1")
        async with asyncio.timeout(SOON):
            while "rows wait in the spool" not in caplog.text:
                await asyncio.sleep(0.01)
        file.unlink()
        assert await here.settled(SOON)
    await exactly(f"sqlite:///{file}", [row])


# Crashes.


async def test_a_crash_between_the_commit_and_the_deletion_counts_nothing_twice(
    database_url: str, spool: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [entry(tokens=7) for _ in range(20)]
    died = asyncio.Event()

    def die(*_: object) -> None:
        died.set()
        raise asyncio.CancelledError

    await dies(spool, rows)
    with monkeypatch.context() as patched:
        patched.setattr(Spool, "forget", die)
        first = StoredLedger(Database(database_url), spool)
        await first.open()
        await died.wait()
        first.close()
    await exactly(database_url, rows)
    assert states(spool) == [(20, 0)]
    async with ledger(database_url, spool) as second:
        assert await second.settled(SOON)
    await exactly(database_url, rows)
    assert states(spool) == [(0, 0)]


async def test_nothing_that_goes_wrong_in_sending_is_the_end_of_it_or_in_the_log_with_a_value(
    tmp_path: Path, spool: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    url, failed, real = f"sqlite:///{tmp_path / 'rerankd.db'}", asyncio.Event(), shipment.ship

    async def fail_once(database: Database, rows: Sequence[bytes]) -> None:
        if not failed.is_set():
            failed.set()
            raise ZeroDivisionError("canary")
        await real(database, rows)

    monkeypatch.setattr(ledger_module, "ship", fail_once)
    rows = [entry() for _ in range(3)]
    async with ledger(url, spool) as here:
        for row in rows:
            await here.record(row)
        await failed.wait()
        assert await here.settled(SOON)
    await exactly(url, rows)
    assert "rows wait in the spool: ZeroDivisionError" in caplog.text
    assert "canary" not in caplog.text


async def test_what_was_recorded_and_not_sent_is_sent_after_the_next_start(
    database_url: str, spool: Path, request: pytest.FixtureRequest
) -> None:
    rows = [entry() for _ in range(5)]
    await found(database_url, "SELECT 1")  # its tables are there
    with standing_still(database_url, request):
        here = StoredLedger(Database(database_url), spool)
        await here.open()
        for row in rows[:4]:
            await here.record(row)
        here.note(rows[4])
        here.close()  # without `stop`
        assert states(spool) == [(5, 0)]
    async with ledger(database_url, spool) as again:
        assert await again.settled(SOON)
    await exactly(database_url, rows)


async def test_what_other_processes_left_behind_is_sent_and_what_they_use_is_left_alone(
    database_url: str, spool: Path, request: pytest.FixtureRequest
) -> None:
    rows = [entry() for _ in range(6)]
    await found(database_url, "SELECT 1")
    with standing_still(database_url, request):
        several = [StoredLedger(Database(database_url), spool) for _ in range(3)]
        for each in several:
            await each.open()
        for each, row in zip([several[number] for number in (0, 1, 1, 2, 2, 2)], rows, strict=True):
            await each.record(row)
        assert states(spool) == [(1, 0), (2, 0), (3, 0)]
        for each in several[1:]:
            each.close()  # as dead as if it was killed: its lock is free, its rows are there
    async with ledger(database_url, spool) as here:
        assert await here.settled(SOON)
        assert await several[0].settled(SOON)
    await several[0].stop()
    several[0].close()
    assert [rows for rows, _ in states(spool)] == [0, 0, 0]
    await exactly(database_url, rows)


# Rows that the database refuses.

REFUSED = [
    ("sqlite", {"tokens": 2**63}),
    ("postgresql", {"tokens": 2**63}),
    ("postgresql", {"model": "a\0b"}),
    ("postgresql", {"model": "m" * 300}),
]


@pytest.mark.parametrize(("database_url", "unfit"), REFUSED, indirect=["database_url"])
async def test_a_row_that_the_database_refuses_is_put_aside_and_keeps_no_other(
    database_url: str, spool: Path, unfit: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    rows = [entry() for _ in range(9)]
    await dies(spool, [*rows[:4], entry(**unfit), *rows[4:]])
    async with ledger(database_url, spool) as here:
        assert await here.settled(SOON)
        assert here.visible == 0
        rows.append(entry(key_id="k2"))
        await here.record(rows[-1])
        assert await here.settled(SOON)
        assert here.visible == 1
    assert states(spool) == [(0, 1)]
    assert "rerankd db check" in caplog.text
    await exactly(database_url, rows)


async def test_a_row_that_cannot_be_understood_is_put_aside_and_keeps_no_other(database_url: str, spool: Path) -> None:
    """As one may be that another version has written."""
    rows, strange = [entry(), entry()], b"\x81\xa3who\xa6knows?"
    await dies(spool, rows[:1])
    journal = Journal(spool / "1")
    journal.append([strange])
    journal.close()
    async with ledger(database_url, spool) as here:
        await here.record(rows[1])
        assert await here.settled(SOON)
    assert states(spool) == [(0, 1)]
    assert b64decode(msgspec.json.decode(waiting(spool)[0].rejects.read_bytes())["entry"]) == strange
    await exactly(database_url, rows)


async def test_a_row_that_cannot_be_put_aside_yet_is_as_soon_as_it_can(
    tmp_path: Path, spool: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = f"sqlite:///{tmp_path / 'rerankd.db'}"
    rows = [entry(), entry()]
    tries = 0
    reject = Spool.reject

    def at_the_third_time(self: Spool, row: Record, reason: str) -> None:
        nonlocal tries
        tries += 1
        if tries == 3:
            in_the_way.rmdir()
        reject(self, row, reason)

    monkeypatch.setattr(Spool, "reject", at_the_third_time)
    async with ledger(url, spool) as here:
        in_the_way = spool / "1" / "rejected"
        in_the_way.mkdir()
        for row in (rows[0], entry(tokens=2**63), rows[1]):
            await here.record(row)
        assert await here.settled(SOON)
    assert states(spool) == [(0, 1)]
    await exactly(url, rows)


# The spool.


async def test_what_does_not_fit_in_the_spool_is_refused(
    database_url: str, spool: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rerankd.store.spool.MOST_ROWS", 3)
    rows = [entry() for _ in range(3)]
    async with ledger(database_url, spool) as here:
        await here.spent("k1")
        with standing_still(database_url, request):
            for row in rows:
                await here.record(row)
            with pytest.raises(StoreUnavailable, match="too long") as caught:
                await here.record(entry())
            assert caught.value.retry_after
            assert not here.healthy
        assert await here.settled(SOON)
        assert here.healthy
        rows.append(entry())
        await here.record(rows[-1])
    await exactly(database_url, rows)


async def test_a_disk_that_is_full_refuses_the_row_and_takes_the_next(
    tmp_path: Path, spool: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = f"sqlite:///{tmp_path / 'rerankd.db'}"

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    row = entry()
    async with ledger(url, spool) as here:
        with monkeypatch.context() as patch:
            patch.setattr(Journal, "append", full)
            with pytest.raises(StoreUnavailable):
                await here.record(entry())
            assert not here.healthy
        assert await here.record(row) == 2
        assert here.healthy
    await exactly(url, [row])


async def test_a_folder_that_is_not_there_is_said_at_once(tmp_path: Path) -> None:
    with pytest.raises(BadSettings, match=r"\(server\.spool\) cannot be used: No such file or directory"):
        StoredLedger(Database(f"sqlite:///{tmp_path / 'rerankd.db'}"), tmp_path / "none" / "spool")
