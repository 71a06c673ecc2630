from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Sequence
from contextlib import closing
from datetime import UTC, datetime
from itertools import chain
from pathlib import Path
from time import time

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rerankd.accounts import Completion, Entry, Spent
from rerankd.errors import StoreUnavailable
from rerankd.store import ledger as ledger_module
from rerankd.store.database import Database, blocking
from rerankd.store.durable_file import open_durable
from rerankd.store.ledger import COLUMNS, KEPT_SINCE, SqliteLedger, write
from rerankd.store.sums import SumKey, Sums
from rerankd.store.tables import LEDGER, USAGE
from tests.store.adding import sums_of
from tests.store.entries import DAY_MS, RECOMPUTED, entries, entry, looked_up, sums_kept, sums_recomputed


async def _made(file: Path) -> None:
    async with Database(f"sqlite:///{file}").transaction():
        pass


@pytest.fixture
def file(tmp_path: Path) -> Path:
    file = tmp_path / "rerankd.db"
    blocking(lambda: _made(file))
    return file


@pytest.fixture
async def ledger(file: Path) -> AsyncIterator[SqliteLedger]:
    ledger = SqliteLedger(file)
    await ledger.open()
    yield ledger
    ledger.close()


def rows(file: Path) -> list[tuple[object, ...]]:
    return looked_up(file, f"SELECT {', '.join(COLUMNS)} FROM ledger ORDER BY number")  # noqa: S608


def test_the_columns_are_those_of_the_tables() -> None:
    assert {"number", *COLUMNS} == set(LEDGER.columns.keys())
    assert Entry.__struct_fields__ == (*COLUMNS, "completion")
    assert tuple(USAGE.columns.keys()) == (*SumKey._fields, *Sums._fields)


async def test_a_row_is_there_when_record_returns_with_all_that_an_entry_has(ledger: SqliteLedger, file: Path) -> None:
    one = entry(estimated=True, error="e", attempts=2, total_us=9, queue_us=1, price_tokens=5, reference="r")
    sequence = await ledger.record(one)
    assert rows(file) == [tuple(getattr(one, name) for name in COLUMNS)]
    assert sums_kept(file) == [("2026-11-21", "k1", "bge", "local", 1, 0, 3, 100, 0, 100, 0, 2)]
    assert ledger.visible == sequence


async def test_an_entry_that_comes_twice_is_one_row_and_counts_once(ledger: SqliteLedger, file: Path) -> None:
    twice, new = entry(), entry()
    await ledger.record(twice)
    await asyncio.gather(ledger.record(twice), ledger.record(new), ledger.record(twice))
    assert len(rows(file)) == 2
    assert sums_kept(file) == sums_recomputed(file)


async def test_what_is_noted_is_written_without_anybody_waiting(file: Path) -> None:
    ledger = SqliteLedger(file)
    ledger.note(entry(status=502))
    ledger.close()
    assert sums_kept(file) == [("2026-11-21", "k1", "bge", "local", 1, 1, 3, 100, 0, 0, 0, 2)]
    ledger.note(entry())  # it is closed: the row is lost, and nothing is raised into the request


@given(st.lists(entries(), max_size=4))
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_sums_are_those_of_the_rows_whatever_is_written_and_however_often(
    file: Path, batches: Sequence[list[Entry]]
) -> None:
    with closing(open_durable(file)) as connection:
        connection.executescript("PRAGMA synchronous = OFF; DELETE FROM ledger; DELETE FROM usage")
        for batch in (*batches, *batches[:1]):
            if batch:
                write(connection, batch)
        there = connection.execute("SELECT count(*) FROM ledger").fetchone()
        kept = connection.execute("SELECT * FROM usage ORDER BY day, key_id, model, channel").fetchall()
        recomputed = connection.execute(RECOMPUTED).fetchall()
    everything = list(chain.from_iterable(batches))
    assert there == (len(everything),)
    assert kept == recomputed == sorted((*key, *added) for key, added in sums_of(everything).items())


async def test_spent_is_what_was_recorded_in_all_this_month_and_today(ledger: SqliteLedger) -> None:
    now = datetime.now(UTC)
    today = int(now.timestamp() * 1000)
    this_month = int(now.replace(day=1, hour=0, minute=0, second=0, microsecond=0).timestamp() * 1000)
    assert await ledger.spent("k1") == Spent()
    await asyncio.gather(
        ledger.record(entry(at=today, tokens=1)),
        ledger.record(entry(at=today, tokens=10, model="another")),
        ledger.record(entry(at=this_month - 1, tokens=100)),
        ledger.record(entry(at=today, tokens=-2, kind="adjust")),
        ledger.record(entry(at=today, tokens=1000, key_id="k2")),
    )
    assert await ledger.spent("k1") == Spent(total=109, month=9, day=9)
    before = await ledger.spent("k2")
    await ledger.record(entry(at=this_month, tokens=7, key_id="k2"))
    assert (await ledger.spent("k2")).month == before.month + 7


async def test_the_answer_under_an_idempotency_key_is_kept_with_its_row(ledger: SqliteLedger, file: Path) -> None:
    def claim(connection: sqlite3.Connection) -> None:
        statement = "INSERT INTO idempotency VALUES ('k1', 'mine', x'00', ?, NULL, 0)"
        connection.execute(statement, ("the-holder",))

    connection = sqlite3.connect(file)
    with connection:
        claim(connection)
    connection.close()
    done = Completion(key_id="k1", idempotency_key="mine", holder="the-holder", response=b"scores")
    await ledger.record(entry(completion=done))
    ((response, expires),) = looked_up(file, "SELECT response, expires FROM idempotency")
    assert response == b"scores"
    assert abs(expires - time() - 86400) < 60


async def test_old_rows_go_by_whole_days_a_few_at_once_and_the_sums_stay(
    ledger: SqliteLedger, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ledger_module, "AT_ONCE", 2)
    midnight = int(time() * 1000) // DAY_MS * DAY_MS
    old = [ledger.record(entry(at=midnight - 30 * DAY_MS - 1 - number)) for number in range(5)]
    await asyncio.gather(*old, ledger.record(entry(at=midnight - 30 * DAY_MS)), ledger.record(entry(at=midnight)))
    sums = sums_kept(file)
    assert await ledger.forget(30) == 5
    assert looked_up(file, "SELECT count(*), min(at) FROM ledger") == [(2, midnight - 30 * DAY_MS)]
    assert looked_up(file, "SELECT number FROM facts WHERE name = ?", KEPT_SINCE) == [(midnight - 30 * DAY_MS,)]
    assert await ledger.forget(400) == 0
    assert looked_up(file, "SELECT number FROM facts WHERE name = ?", KEPT_SINCE) == [(midnight - 30 * DAY_MS,)]
    assert sums_kept(file) == sums


async def test_a_full_disk_takes_no_row_and_no_sum_and_goes_on_when_there_is_space(
    ledger: SqliteLedger, file: Path
) -> None:
    def bound(connection: sqlite3.Connection) -> None:
        (pages,) = connection.execute("PRAGMA page_count").fetchone()
        connection.execute(f"PRAGMA max_page_count = {pages}")

    await ledger._commits.run(bound)
    asked = [ledger.record(entry(request_id="x" * 128)) for _ in range(300)]
    found = [await asyncio.gather(one, return_exceptions=True) for one in asked]
    written = sum(isinstance(one, int) for (one,) in found)
    assert {type(one) for (one,) in found} == {int, StoreUnavailable}
    assert len(rows(file)) == written
    assert sums_kept(file) == sums_recomputed(file)
    await ledger.record(entry())  # by a connection of its own, which has no such bound
    assert len(rows(file)) == written + 1


async def test_a_file_without_tables_is_said_at_once_and_a_sum_that_cannot_be_read_is_no_zero(tmp_path: Path) -> None:
    ledger = SqliteLedger(tmp_path / "other.db")
    with pytest.raises(StoreUnavailable):
        await ledger.open()
    with pytest.raises(StoreUnavailable):
        await ledger.spent("k1")
    ledger.close()
