"""What was used: the same sums and the same pages from either database, and quickly from a large one."""

from __future__ import annotations

from collections.abc import Sequence
from time import perf_counter
from typing import Any

import msgspec
import pytest
from sqlalchemy import func, insert, select, text
from sqlalchemy.dialects import sqlite

from rerankd.accounts import Entry
from rerankd.store import usage
from rerankd.store.database import Database, blocking
from rerankd.store.records import Dimension, LedgerQuery, UsageQuery
from rerankd.store.tables import LEDGER
from rerankd.store.usage import UsageBook, end_of_scan, rows_of
from tests.store.adding import sums_of
from tests.store.entries import DAY_MS, NOON

ROWS = 200_000
PATIENCE = 0.3

MADE = f"""
WITH RECURSIVE counted(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM counted WHERE i < {ROWS})
INSERT INTO ledger SELECT i, printf('%032x', i), 'request-' || i, 'request', '', {NOON} + i * 100, 'key' || (i % 100),
  'model' || (i % 10), CASE WHEN i % 1000 = 0 THEN 'rare' ELSE 'local' END, 10, 1000, 0, 1, 0,
  CASE WHEN i % 500 = 0 THEN 503 ELSE 200 END, '', 1, 1000, 1, 1, 1, 1, 0, 0, 5 FROM counted
"""  # noqa: S608


def entry(number: int, **more: Any) -> Entry:
    values: dict[str, Any] = {
        "entry": f"{number:032x}",
        "request_id": f"request-{number}",
        "at": NOON + number,
        "key_id": "one",
        "model": "m",
        "channel": "local",
        "documents": 2,
        "status": 200,
        "tokens": 10,
        "cost": 3,
    }
    return Entry(**{**values, **more})


async def kept(database: Database, entries: Sequence[Entry]) -> UsageBook:
    """With the entries in the ledger."""
    rows = [{name: value for name, value in msgspec.structs.asdict(one).items() if name in LEDGER.c} for one in entries]
    async with database.transaction() as connection:
        await connection.execute(insert(LEDGER), rows)
    return UsageBook(database)


ENTRIES = [
    entry(1),
    entry(2, model="other", status=502, tokens=0, cost=0),
    entry(3, key_id="two", estimated=True, cached_tokens=4),
    entry(4, at=NOON + DAY_MS, channel="far", search_units=1),
    entry(5, kind="adjust", reference="1", documents=0, tokens=-10, cost=-3),
    entry(6, at=NOON - DAY_MS, model="日本 %_'", tokens=2**40, cost=2**41),
]
WHOLE: dict[str, Any] = {"since": "2026-11-20", "until": "2026-11-22"}


@pytest.mark.parametrize(
    "by", [(), ("day",), ("key",), ("model", "channel"), ("day", "key", "model", "channel")], ids=",".join
)
async def test_sums_are_those_of_the_rows(database_url: str, by: tuple[Dimension, ...]) -> None:
    book = await kept(Database(database_url), ENTRIES)
    names = {"day": "day", "key": "key_id", "model": "model", "channel": "channel"}
    expected: dict[tuple[str, ...], list[int]] = {}
    for key, sums in sums_of(ENTRIES).items():
        place = tuple(getattr(key, names[name]) for name in by)
        expected[place] = [a + b for a, b in zip(expected.get(place, [0] * len(sums)), sums, strict=True)]
    found = await book.sums(UsageQuery(**WHOLE, by=by))
    assert {
        tuple(getattr(row, name) for name in by): list(msgspec.structs.astuple(row)[4:]) for row in found
    } == expected
    assert all(type(number) is int for row in found for number in msgspec.structs.astuple(row)[4:])


async def test_only_the_days_and_the_filters_that_were_asked_for(database_url: str) -> None:
    book = await kept(Database(database_url), ENTRIES)

    async def requests(**query: Any) -> int:
        return (await book.sums(UsageQuery(**{**WHOLE, **query})))[0].requests

    assert await requests() == 5
    assert await requests(since="2026-11-21", until="2026-11-21") == 3
    assert await requests(since="2030-01-01", until="2030-01-02") == 0
    assert (await requests(key="two"), await requests(model="other"), await requests(channel="far")) == (1, 1, 1)
    assert (await requests(model="%"), await requests(model="日本 %_'")) == (0, 1)


async def test_pages_of_sums_are_the_whole(database_url: str) -> None:
    book = await kept(Database(database_url), ENTRIES)
    by: tuple[Dimension, ...] = ("day", "key", "model", "channel")
    whole = list(await book.sums(UsageQuery(**WHOLE, by=by)))
    paged: list[Any] = []
    after: tuple[str, ...] | None = None
    while page := await book.sums(UsageQuery(**WHOLE, by=by, limit=2, after=after)):
        paged += page
        after = tuple(getattr(page[-1], name) for name in by)
    assert paged == whole
    assert len(whole) == len(sums_of(ENTRIES))


async def numbers(book: UsageBook, **query: Any) -> list[int]:
    """Of all rows, read page after page."""
    found: list[int] = []
    before = None
    for _ in range(100):
        page = await book.rows(LedgerQuery(**query, before=before))
        found += [int(one.entry, 16) for _, one in page.rows]
        before = page.further
        if before is None:
            return found
    raise AssertionError("it never ends")


async def test_rows_come_back_as_they_were_written_newest_first(database_url: str) -> None:
    book = await kept(Database(database_url), ENTRIES)
    page = await book.rows(LedgerQuery())
    assert [one for _, one in page.rows] == sorted(ENTRIES, key=lambda one: -one.at)
    assert page.further is None
    assert await book.row(ENTRIES[2].entry) == ENTRIES[2]
    assert await book.row("none") is None


@pytest.mark.parametrize("limit", [1, 2, 3, 50])
async def test_pages_of_rows_are_the_whole_also_where_many_have_one_time(database_url: str, limit: int) -> None:
    at = {"at": NOON}
    entries = [*(entry(number, **at) for number in range(1, 8)), entry(8, at=NOON - 1), entry(9, at=NOON + 1)]
    book = await kept(Database(database_url), entries)
    assert await numbers(book, limit=limit) == [9, 7, 6, 5, 4, 3, 2, 1, 8]


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ({"key": "two"}, [3]),
        ({"key": "%"}, []),
        ({"model": "other"}, [2]),
        ({"channel": "far"}, [4]),
        ({"status": 502}, [2]),
        ({"request_id": "request-3"}, [3]),
        ({"request_id": "request-3", "key": "one"}, []),
        ({"key": "one", "status": 200, "model": "m"}, [4, 5, 1]),
        ({"since": NOON + 2, "until": NOON + 5}, [3, 2]),
        ({"key": "one", "since": NOON + DAY_MS}, [4]),
    ],
)
async def test_filters_are_exact_and_go_together(database_url: str, query: dict[str, Any], expected: list[int]) -> None:
    book = await kept(Database(database_url), ENTRIES)
    assert await numbers(book, limit=2, **query) == expected


async def test_what_has_no_index_is_found_page_after_page_of_the_rows_looked_at(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(usage, "SCAN", 3)
    entries = [entry(number, model="rare" if number % 4 == 1 else "m") for number in range(1, 14)]
    book = await kept(Database(database_url), entries)
    first = await book.rows(LedgerQuery(model="rare"))
    assert [int(one.entry, 16) for _, one in first.rows] == [13]
    assert first.further is not None
    assert await numbers(book, model="rare") == [13, 9, 5, 1]
    assert await numbers(book, model="rare", limit=1) == [13, 9, 5, 1]
    assert await numbers(book, model="none") == []


QUERIES: list[tuple[dict[str, Any], str]] = [
    ({}, "ledger_at"),
    ({"since": NOON + 5_000_000, "until": NOON + 15_000_000}, "ledger_at"),
    ({"key": "key5"}, "ledger_key_at"),
    ({"key": "key5", "since": NOON + 5_000_000}, "ledger_key_at"),
    ({"request_id": "request-77"}, "ledger_request"),
    ({"request_id": "request-77", "key": "key77", "since": NOON}, "ledger_request"),
    ({"model": "model3"}, "ledger_at"),
    ({"model": "none"}, "ledger_at"),
    ({"channel": "rare", "status": 503}, "ledger_at"),
    ({"key": "key1", "model": "none"}, "ledger_key_at"),
]


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Database:
    database = Database(f"sqlite:///{tmp_path_factory.mktemp('large') / 'rerankd.db'}")

    async def fill() -> int:
        async with database.transaction() as connection:
            await connection.execute(text(MADE))
            return (await connection.execute(select(func.count()).select_from(LEDGER))).scalar_one()

    assert blocking(fill) == ROWS
    return database


@pytest.mark.parametrize(("query", "index"), QUERIES)
async def test_a_page_of_a_large_ledger_comes_quickly_and_by_an_index(
    large: Database, query: dict[str, Any], index: str
) -> None:
    for before in (None, (NOON + 10_000_000, 100_000)):
        asked = LedgerQuery(**query, before=before, limit=500)
        times = []
        for _ in range(3):
            started = perf_counter()
            await UsageBook(large).rows(asked)
            times.append(perf_counter() - started)
        assert min(times) < PATIENCE
        for statement in (rows_of(asked), end_of_scan(asked)):
            plan = await plan_of(large, statement)
            assert index in plan, plan
            sorted_whole = "TEMP B-TREE" in plan.replace(
                "SCAN seen | USE TEMP B-TREE", ""
            )  # what was looked at is little
            assert "request_id" in query or not sorted_whole, plan


async def plan_of(database: Database, statement: Any) -> str:
    written = str(statement.compile(dialect=sqlite.dialect(), compile_kwargs={"literal_binds": True}))
    async with database.transaction() as connection:
        found = await connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {written}")
        return " | ".join(row["detail"] for row in found.mappings())
