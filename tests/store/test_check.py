from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable, Sequence
from pathlib import Path
from time import time
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from sqlalchemy import text

from rerankd.accounts import Entry
from rerankd.errors import BadSettings
from rerankd.store.check import Difference, Findings, check, repair
from rerankd.store.database import Database
from rerankd.store.key_records import NewKey
from rerankd.store.keys import KeyStore
from rerankd.store.ledger import StoredLedger
from rerankd.store.reconcile import Line, Used, reconcile
from rerankd.store.spool import Spool
from tests.store.entries import DAY_MS, NOON, entries, entry

DAY = "2026-11-21"


class Kept:
    """A database of each kind, and its ledger."""

    def __init__(self, url: str, folder: Path) -> None:
        self.url = url
        self.database = Database(url)
        self.spool = folder / "spool"

    async def write(self, rows: Sequence[Entry], *, forget: int | None = None) -> None:
        await self.database.upgrade()
        ledger = StoredLedger(self.database, self.spool)
        await ledger.open()
        for row in rows:
            ledger.note(row)
        await ledger.stop()
        if forget is not None:
            await ledger.forget(forget)
        ledger.close()

    async def change(self, statement: str) -> None:
        async with self.database.transaction() as connection:
            await connection.execute(text(statement))

    async def check(self) -> Findings:
        return await check(self.database, self.spool, None)


@pytest.fixture
def kept(database_url: str, tmp_path: Path) -> Kept:
    return Kept(database_url, tmp_path)


async def test_a_new_database_is_well(kept: Kept) -> None:
    found = await kept.check()
    assert (found.well, found.rows) == (True, 0)


@settings(max_examples=10, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=entries())
async def test_what_the_ledger_wrote_agrees_with_itself(kept: Kept, rows: list[Entry]) -> None:
    await kept.change("DELETE FROM ledger")
    await kept.change("DELETE FROM usage")
    await kept.write(rows)
    found = await kept.check()
    assert (found.well, found.rows) == (True, len(rows)), found


CHANGES: dict[str, tuple[str, list[tuple[str, int, int]]]] = {
    "a sum that was changed": ("UPDATE usage SET tokens = tokens + 5", [("tokens", 205, 200)]),
    "a row that is gone": (
        "DELETE FROM ledger WHERE tokens = 101",
        [("requests", 2, 1), ("documents", 6, 3), ("tokens", 200, 99), ("cost", 4, 2)],
    ),
    "sums that are gone": (
        "DELETE FROM usage",
        [("requests", 0, 2), ("documents", 0, 6), ("tokens", 0, 200), ("cost", 0, 4)],
    ),
}


@pytest.mark.parametrize("change", CHANGES)
async def test_what_was_changed_from_outside_is_found_and_repaired(kept: Kept, change: str) -> None:
    statement, wanted = CHANGES[change]
    await kept.write([entry(tokens=101), entry(tokens=99), entry(at=NOON - DAY_MS, tokens=7, channel="jina")])
    await kept.change(statement if "usage" not in statement else f"{statement} WHERE day = '{DAY}'")
    found = await kept.check()
    assert not found.well
    assert list(found.differences) == [Difference(DAY, "k1", "bge", "local", *difference) for difference in wanted]
    await repair(kept.database, {DAY}, "a test")
    assert (await kept.check()).well
    async with kept.database.transaction() as connection:
        written = await connection.execute(text("SELECT actor, action, target FROM audit"))
    assert [tuple(row) for row in written] == [("a test", "usage.repair", DAY)]


async def test_days_whose_rows_have_aged_out_are_left_alone(kept: Kept) -> None:
    now = int(time() * 1000)
    await kept.write([entry(at=now), entry(at=now - 9 * DAY_MS)], forget=5)
    assert (await kept.check()).well
    await kept.change("UPDATE usage SET tokens = tokens + 1")
    assert len((await kept.check()).differences) == 1


async def test_rows_that_wait_are_no_fault_and_those_that_were_refused_are(postgres_url: str, tmp_path: Path) -> None:
    kept = Kept(postgres_url, tmp_path)
    await kept.write([entry(model="a\0b"), entry()])
    spool = Spool(kept.spool)
    await spool.open()
    await spool.put(entry())
    found = await kept.check()  # while another has the spool
    assert (found.rows, found.waiting, found.rejected, found.well) == (1, 1, 1, False)
    spool.close()


async def test_keys_without_their_pepper_are_said(kept: Kept, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    await KeyStore(kept.database, "p" * 32).create(NewKey(name="me"), actor="a test")
    assert "no pepper" in (await kept.check()).problems[0]
    assert (await check(kept.database, kept.spool, "p" * 32)).well
    assert "not the one" in (await check(kept.database, kept.spool, "q" * 32)).problems[0]


async def test_a_check_waits_for_no_writer_and_holds_up_none(tmp_path: Path) -> None:
    kept = Kept(f"sqlite:///{tmp_path / 'rerankd.db'}", tmp_path)
    await kept.write([entry()])
    await kept.check()
    writer = sqlite3.connect(tmp_path / "rerankd.db", isolation_level=None)
    writer.execute("BEGIN IMMEDIATE")
    kept.database = Database(kept.url)
    checking = asyncio.create_task(kept.check())
    await asyncio.sleep(0.05)
    writer.execute("COMMIT")
    writer.close()
    assert (await checking).well


async def test_a_damaged_file_is_told(tmp_path: Path) -> None:
    kept = Kept(f"sqlite:///{tmp_path / 'rerankd.db'}", tmp_path)
    await kept.write([entry(model=f"m{number}") for number in range(500)])
    writer = sqlite3.connect(tmp_path / "rerankd.db")
    (root, size) = writer.execute(
        "SELECT rootpage, (SELECT page_size FROM pragma_page_size) FROM sqlite_master WHERE name = 'ledger_request'"
    ).fetchone()
    writer.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    writer.close()
    with (tmp_path / "rerankd.db").open("r+b") as file:
        file.seek((root - 1) * size + 12)
        file.write(b"\xff" * (size - 12))
    found = await kept.check()
    assert not found.well
    assert found.problems


INVOICE = f"day,channel,tokens,cost\n{DAY},jina,1000,0.5\n"


@pytest.fixture
def invoice(tmp_path: Path) -> Callable[[str], Path]:
    def written(text: str) -> Path:
        file = tmp_path / "invoice.csv"
        file.write_text(text)
        return file

    return written


async def test_an_invoice_is_compared_with_what_was_sent(kept: Kept, invoice: Callable[[str], Path]) -> None:
    at_jina: dict[str, Any] = {"channel": "jina", "tokens": 600, "cached_tokens": 100, "cost": 250_000}
    await kept.write([entry(**at_jina), entry(**at_jina), entry(tokens=5), entry(**at_jina, at=NOON - 9 * DAY_MS)])
    assert await reconcile(kept.database, invoice(INVOICE)) == [
        Line(DAY, "jina", Used(1000, 500_000), Used(1000, 500_000), 0.0)
    ]
    (line,) = await reconcile(kept.database, invoice(f"tokens,day,channel\n400,{DAY}, jina\n850,{DAY},jina\n"))
    assert (line.billed, line.off) == (Used(1250), 20.0)
    lines = await reconcile(kept.database, invoice(f"{INVOICE}2026-11-12,jina,500,\n2026-11-13,none,7,\n"))
    assert [(line.day, line.ours.tokens, line.off) for line in lines] == [
        ("2026-11-12", 500, 0.0),
        ("2026-11-13", 0, 100.0),
        (DAY, 1000, 0.0),
    ]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("day,tokens\n", "no column channel"),
        (f"day,channel,tokens\n{DAY},jina,many\n", "line 2"),
        (f"day,channel,tokens\n{DAY},jina,1\n21.11.,jina,1\n", "line 3"),
        (f"day,channel,tokens\n{DAY},jina,-1\n", "line 2"),
        (f"day,channel,tokens\n{DAY},jina,NaN\n", "line 2"),
        (f"day,channel,tokens\n{DAY},jina,1e99\n", "line 2"),
        (f"day,channel,tokens\n{DAY}\n", "line 2"),
    ],
)
async def test_a_file_that_is_no_invoice_is_refused_where_it_is_wrong(
    tmp_path: Path, invoice: Callable[[str], Path], content: str, said: str
) -> None:
    with pytest.raises(BadSettings, match=said):
        await reconcile(Database(f"sqlite:///{tmp_path / 'rerankd.db'}"), invoice(content))
