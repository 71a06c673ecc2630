from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from sqlalchemy import text

from rerankd.accounts import Completion, Entry
from rerankd.errors import BadSettings, StoreUnavailable
from rerankd.store import spool as spool_module
from rerankd.store.database import Database
from rerankd.store.idempotency import InDatabase, StoredClaims
from rerankd.store.ledger import COLUMNS, KEPT_SINCE
from rerankd.store.spool import Spool, waiting
from rerankd.store.spooled_ledger import SpooledLedger
from rerankd.store.sums import day_of
from tests.store.adding import sums_of
from tests.store.entries import DAY_MS, entries, entry
from tests.store.postgres_server import PostgresServer

SOON = 20.0
SLOWER = 0.05
"""Seconds by which the p99 of `record` may be worse while the database stands still, on a machine that does other things;
docs/reliability.md has the figure of one that does not."""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "spool.db"


@asynccontextmanager
async def ledger(url: str, file: Path) -> AsyncIterator[SpooledLedger]:
    here = SpooledLedger(Database(url), file)
    await here.open()
    try:
        yield here
    finally:
        await here.stop()
        here.close()


async def dies(url: str, file: Path, rows: Sequence[Entry]) -> None:
    """A process writes the rows, and ends before it has sent them: all that it leaves is its file."""
    spool = Spool(file)
    await spool.open()
    for row in rows:
        await spool.put(row)
    spool.close()


async def found(url: str, statement: str, **values: object) -> list[tuple[Any, ...]]:
    database = Database(url)
    async with database.transaction(insist=True) as connection:
        rows = [tuple(row) for row in await connection.execute(text(statement), values)]
    await database.close()
    return rows


async def kept(url: str) -> list[tuple[Any, ...]]:
    return await found(url, f"SELECT {', '.join(COLUMNS)} FROM ledger ORDER BY entry")  # noqa: S608


async def sums(url: str) -> list[tuple[Any, ...]]:
    return await found(url, 'SELECT * FROM usage ORDER BY day, key_id, model COLLATE "C", channel')


def as_kept(rows: Sequence[Entry]) -> list[tuple[Any, ...]]:
    return sorted(tuple(getattr(row, name) for name in COLUMNS) for row in rows)


def as_summed(rows: Sequence[Entry]) -> list[tuple[Any, ...]]:
    return sorted((*key, *added) for key, added in sums_of(rows).items())


async def exactly(url: str, rows: Sequence[Entry]) -> None:
    assert await kept(url) == as_kept(rows)
    assert sorted(await sums(url)) == as_summed(rows)


async def test_a_row_is_in_the_database_soon_with_all_that_an_entry_has_and_its_sums(
    postgres_url: str, file: Path
) -> None:
    rows = [
        entry(
            estimated=True, error="e", attempts=2, total_us=9, queue_us=1, price_tokens=5, kind="adjust", reference="r"
        ),
        entry(status=502, model="名\"'\\", tokens=2**40),
    ]
    async with ledger(postgres_url, file) as here:
        sequences = [await here.record(row) for row in rows]
        assert sequences == [1, 2]
        assert await here.settled(SOON)
        assert (here.visible, here.waiting) == (2, 0)
    await exactly(postgres_url, rows)


async def test_what_is_visible_is_in_the_sums_at_every_moment(postgres_url: str, file: Path) -> None:
    async def recorded(here: SpooledLedger) -> None:
        for _ in range(20):
            await asyncio.gather(*(here.record(entry(tokens=1)) for _ in range(100)))

    async with ledger(postgres_url, file) as here:
        await here.spent("k1")
        recording = asyncio.create_task(recorded(here))
        seen = set()
        while not recording.done() or here.visible < 2000:
            visible = here.visible
            assert (await here.spent("k1")).total >= visible
            seen.add(visible)
            await asyncio.sleep(0.002)
        assert (await here.spent("k1")).total == 2000
    assert len(seen) > 2, seen


@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=entries())
async def test_the_sums_are_those_of_the_rows(postgres_url: str, tmp_path: Path, rows: list[Entry]) -> None:
    for table in ("ledger", "usage"):
        await found(postgres_url, f"DELETE FROM {table} RETURNING 1")  # noqa: S608
    async with ledger(postgres_url, tmp_path / "spool.db") as here:
        for row in [*rows, *rows[:3]]:  # some twice
            here.note(row)
        assert await here.settled(SOON)
    await exactly(postgres_url, list({row.entry: row for row in rows}.values()))


async def test_nobody_waits_for_a_database_that_stands_still_and_nothing_is_lost(
    postgres_server: PostgresServer, postgres_url: str, file: Path
) -> None:
    rows: list[Entry] = []

    async def p99_of(here: SpooledLedger, seconds: float) -> float:
        took: list[float] = []
        until = time.monotonic() + seconds

        async def ask() -> None:
            while time.monotonic() < until:
                row = entry()
                began = time.perf_counter()
                await here.record(row)
                took.append(time.perf_counter() - began)
                rows.append(row)
                await asyncio.sleep(0.005)

        await asyncio.gather(*(ask() for _ in range(8)))
        return sorted(took)[int(len(took) * 0.99)]

    async with ledger(postgres_url, file) as here:
        up = await p99_of(here, 1.0)
        postgres_server.pause()
        paused = await p99_of(here, 3.0)
        assert here.waiting > 100
        postgres_server.resume()
        assert await here.settled(SOON)
    print(f"p99 of record: {up * 1000:.2f} ms, while PostgreSQL is paused: {paused * 1000:.2f} ms")  # noqa: T201
    assert paused < up + SLOWER
    await exactly(postgres_url, rows)


async def test_a_database_that_is_killed_under_load_gets_every_row_once(
    postgres_server: PostgresServer, postgres_url: str, file: Path
) -> None:
    rows: list[Entry] = []
    async with ledger(postgres_url, file) as here:
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


async def test_a_start_without_the_database_serves_and_sends_later(
    postgres_server: PostgresServer, postgres_url: str, file: Path
) -> None:
    left = [entry() for _ in range(3)]
    await dies(postgres_url, file, left)
    postgres_server.kill()
    async with ledger(postgres_url, file) as here:
        fresh = entry()
        await here.record(fresh)
        assert (here.waiting, here.visible) == (4, 0)
        with pytest.raises(StoreUnavailable):
            await here.spent("k1")
        await asyncio.to_thread(postgres_server.start)
        assert await here.settled(SOON)
    await exactly(postgres_url, [*left, fresh])


async def test_a_crash_between_the_commit_and_the_deletion_counts_nothing_twice(
    postgres_url: str, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [entry(tokens=7) for _ in range(20)]
    died = asyncio.Event()

    async def die(*_: object) -> None:
        died.set()
        await asyncio.Event().wait()

    await dies(postgres_url, file, rows)
    with monkeypatch.context() as patched:
        patched.setattr(Spool, "forget", die)
        first = SpooledLedger(Database(postgres_url), file)
        await first.open()
        await died.wait()
        first.close()
    await exactly(postgres_url, rows)
    assert waiting(file)[0].rows == 20
    async with ledger(postgres_url, file) as second:
        assert await second.settled(SOON)
    await exactly(postgres_url, rows)
    assert waiting(file)[0].rows == 0


@pytest.mark.parametrize("unfit", [{"model": "a\0b"}, {"model": "m" * 300}, {"tokens": 2**63}])
async def test_a_row_that_the_database_refuses_is_put_aside_and_keeps_no_other(
    postgres_url: str, file: Path, unfit: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    rows = [entry() for _ in range(9)]
    await dies(postgres_url, file, [*rows[:4], entry(**unfit), *rows[4:]])
    async with ledger(postgres_url, file) as here:
        assert await here.settled(SOON)
        assert here.visible == 0
        await here.record(entry(key_id="k2"))
        assert await here.settled(SOON)
        assert here.visible == 1
    assert [(each.rows, each.rejected) for each in waiting(file)] == [(0, 1)]
    assert "rerankd db check" in caplog.text
    assert (await found(postgres_url, "SELECT count(*) FROM ledger WHERE key_id = 'k1'")) == [(9,)]


async def test_each_process_has_a_file_of_its_own_and_takes_over_what_was_left(
    postgres_server: PostgresServer, postgres_url: str, file: Path
) -> None:
    postgres_server.kill()
    first, second = SpooledLedger(Database(postgres_url), file), SpooledLedger(Database(postgres_url), file)
    await first.open()
    await second.open()
    rows = [entry() for _ in range(5)]
    for each, row in zip((first, second, second, second, second), rows, strict=True):
        await each.record(row)
    assert [(each.file.name, each.rows) for each in waiting(file)] == [("spool.db", 1), ("spool-2.db", 4)]
    first.close()
    second.close()  # as dead as if it was killed: its lock is free, its rows are there
    await asyncio.to_thread(postgres_server.start)
    async with ledger(postgres_url, file) as here:
        assert await here.settled(SOON)
    assert [each.rows for each in waiting(file)] == [0, 0]
    await exactly(postgres_url, rows)


async def test_a_file_in_use_is_not_taken_over(postgres_server: PostgresServer, postgres_url: str, file: Path) -> None:
    await dies(postgres_url, file, [entry()])
    postgres_server.kill()
    async with ledger(postgres_url, file) as first:
        async with ledger(postgres_url, file) as second:
            assert (first.waiting, second.waiting) == (1, 0)
        await asyncio.to_thread(postgres_server.start)


async def test_what_does_not_fit_in_the_spool_is_refused(
    postgres_server: PostgresServer, postgres_url: str, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spool_module, "MOST_ROWS", 3)
    postgres_server.kill()
    rows = [entry() for _ in range(3)]
    async with ledger(postgres_url, file) as here:
        for row in rows:
            await here.record(row)
        with pytest.raises(StoreUnavailable, match="too long") as caught:
            await here.record(entry())
        assert caught.value.retry_after
        assert not here.healthy
        await asyncio.to_thread(postgres_server.start)
        assert await here.settled(SOON)
        assert here.healthy
        rows.append(entry())
        await here.record(rows[-1])
    await exactly(postgres_url, rows)


async def test_a_folder_that_is_not_there_is_said_at_once(postgres_url: str, tmp_path: Path) -> None:
    with pytest.raises(BadSettings, match=r"\(server\.spool\) cannot be used: No such file or directory"):
        SpooledLedger(Database(postgres_url), tmp_path / "none" / "spool.db")


async def test_an_answer_is_kept_with_the_row_that_it_cost(postgres_url: str, file: Path) -> None:
    claims = StoredClaims(InDatabase(Database(postgres_url)))
    assert await claims.claim("k1", "one", b"asked", "me", 60.0) is None
    done = Completion(key_id="k1", idempotency_key="one", holder="me", response=b"\0answer")
    async with ledger(postgres_url, file) as here:
        await here.record(entry(completion=done))
        assert await here.settled(SOON)
    assert await claims.claim("k1", "one", b"asked", "another", 60.0) == b"\0answer"


async def test_old_rows_go_and_their_sums_stay(postgres_url: str, file: Path) -> None:
    now = int(time.time() * 1000)
    rows = [entry(at=now - days * DAY_MS, tokens=5) for days in (0, 1, 9, 10)]
    async with ledger(postgres_url, file) as here:
        for row in rows:
            await here.record(row)
        assert await here.settled(SOON)
        assert await here.forget(5) == 2
        assert await here.forget(5) == 0
        assert (await here.spent("k1")).total == 20
        assert (await here.spent("k1")).day == 5
    assert await kept(postgres_url) == as_kept(rows[:2])
    since = await found(postgres_url, "SELECT number FROM facts WHERE name = :name", name=KEPT_SINCE)
    assert day_of(since[0][0]) == day_of(now - 5 * DAY_MS)
