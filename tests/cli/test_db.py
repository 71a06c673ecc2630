"""`rerankd db`: brought up to date, checked, repaired and compared with an invoice, on both kinds of database."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from rerankd.cli import db
from rerankd.settings import Settings
from rerankd.store.database import Database, blocking
from rerankd.store.ledger import StoredLedger
from tests.cli.conftest import Run
from tests.store import postgres_server as postgres
from tests.store.entries import entry


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path}/rerankd.db"
        return
    with postgres.shared().database() as url:
        yield url


@pytest.fixture(autouse=True)
def _configured(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RERANKD_SERVER_DATABASE", url)


async def _written(url: str, folder: Path) -> None:
    database = Database(url)
    await database.upgrade()
    ledger = StoredLedger(database, Settings.parse({"server": {"database": url}}).server.spool_folder)
    await ledger.open()
    for channel in ("jina", "jina", "a-channel-with-quite-a-long-name"):
        ledger.note(entry(channel=channel, model="BAAI/bge-reranker-v2-m3", key_id="aB3dE6gH"))
    await ledger.stop()
    ledger.close()


@pytest.fixture
def _rows(url: str, tmp_path: Path) -> None:
    blocking(lambda: _written(url, tmp_path))


def change(url: str, statement: str) -> None:
    if url.startswith("sqlite"):
        connection = sqlite3.connect(url.removeprefix("sqlite:///"))
        connection.execute(statement)
        connection.commit()
        connection.close()
        return
    with psycopg.connect(url) as other:
        other.execute(statement.encode())


def test_an_upgrade_says_from_which_version_to_which(run: Run, url: str) -> None:
    first, second = run("db", "upgrade"), run("db", "upgrade")
    assert (first.status, second.status) == (0, 0)
    assert "is at version 0002 now; it was empty" in first.out
    assert "is up to date: version 0002" in second.out
    assert json.loads(run("db", "upgrade", "--json").out)["to"] == "0002"


@pytest.mark.usefixtures("_rows")
def test_all_is_well_until_something_is_not_and_again_after_the_repair(run: Run, url: str) -> None:
    well = run("db", "check")
    assert (well.status, well.out) == (0, "All is well: 3 rows, each there once, and the sums are theirs.\n")
    change(url, "UPDATE usage SET tokens = tokens + 1000000 WHERE channel = 'jina'")
    off = run("db", "check")
    assert off.status == 1
    assert "1,000,200" in off.out
    assert "Not all is well: 3 rows." in off.out
    answer = json.loads(run("db", "check", "--json").out)
    assert (answer["well"], answer["differences"][0]["kept"], answer["differences"][0]["rows"]) == (False, 1000200, 200)
    repaired = run("db", "check", "--repair")
    assert repaired.status == 0
    assert "The sums of 2026-11-21 were set" in repaired.out
    assert run("db", "check").status == 0


@pytest.mark.usefixtures("_rows")
def test_an_invoice_within_the_tolerance_agrees(run: Run, tmp_path: Path) -> None:
    file = tmp_path / "invoice.csv"
    file.write_text("day,channel,tokens\n2026-11-21,jina,205\n")
    off = run("db", "reconcile", str(file))
    assert (off.status, "1 of 1 lines differ by more than 1 %" in off.out) == (1, True)
    assert json.loads(run("db", "reconcile", str(file), "--json").out)["differences"][0]["percent"] == 2.439
    assert run("db", "reconcile", str(file), "--tolerance", "3").out == "1 line compared, none off by more than 3 %.\n"
    missing = run("db", "reconcile", str(tmp_path / "none.csv"))
    assert (missing.status, "No such file" in missing.err) == (1, True)


@pytest.mark.usefixtures("_rows")
def test_eighty_columns_are_enough(run: Run, url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(db, "WIDE", 80)
    file = tmp_path / "invoice.csv"
    file.write_text("day,channel,tokens,cost\n2026-11-21,a-channel-with-quite-a-long-name,2000000000,12345.678901\n")
    change(url, "UPDATE usage SET tokens = tokens + 1000000000")
    for arguments in (("db", "check"), ("db", "reconcile", str(file))):
        shown = run(*arguments).out
        assert max(map(len, shown.splitlines())) <= 80, shown
        assert "2026-11-21" in shown
        assert "1,000,000,1" in shown


def test_a_database_that_is_away_is_said_with_the_reason_and_without_the_password(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RERANKD_SERVER_DATABASE", "postgresql://u:canary-there@127.0.0.1:1/none")
    for arguments in (("upgrade",), ("check",), ("check", "--json")):
        outcome = run("db", *arguments)
        assert outcome.status == 1
        assert "127.0.0.1:1/none (server.database)" in outcome.err
        assert "refused" in outcome.err
        assert "canary" not in outcome.out + outcome.err


def test_a_file_that_is_not_there_is_not_found_well(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RERANKD_SERVER_DATABASE")
    for arguments in (("check",), ("reconcile", "invoice.csv")):
        outcome = run("db", *arguments)
        assert (outcome.status, "There is no database rerankd.db" in outcome.err) == (1, True)
    assert not (tmp_path / "rerankd.db").exists()
