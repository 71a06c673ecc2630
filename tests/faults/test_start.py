"""A start over a SQLite file that somebody else holds, or that is none: it waits, or says in one sentence what is wrong."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

from rerankd.cli import books
from rerankd.cli.books import Shelf
from rerankd.errors import BadSettings
from rerankd.settings import Settings

A_CHORE_THAT_TAKES_LONG = """
import asyncio
from rerankd.cli.main import main
from rerankd.store.audit import AuditLog
async def forget(self, days):
    async with self._database.transaction():
        await asyncio.sleep(1)
    return 0
AuditLog.forget = forget
main()
"""
STEPS: list[Callable[[Shelf], Any]] = [Shelf.key_state, Shelf.books, Shelf.admin_key]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A database that is up to date, with an admin's key."""
    shelf = shelf_over(tmp_path / "rerankd.db")
    shelf.key_state()
    shelf.books()
    assert shelf.admin_key() is not None
    return tmp_path / "rerankd.db"


def shelf_over(file: Path) -> Shelf:
    return Shelf(Settings.parse({"ledger": {"enabled": False}, "server": {"database": f"sqlite:///{file}"}}))


@contextmanager
def held(file: Path) -> Iterator[sqlite3.Connection]:
    with closing(sqlite3.connect(file, isolation_level=None, check_same_thread=False)) as other:
        other.execute("BEGIN IMMEDIATE")
        yield other


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """SQLite waits for a moment alone, so that it is we who wait."""
    monkeypatch.setattr("rerankd.store.sqlite.PRAGMAS", ("busy_timeout = 20", "synchronous = FULL"))


@pytest.mark.usefixtures("hasty")
@pytest.mark.parametrize("step", STEPS)
def test_a_start_waits_until_the_file_is_free(
    file: Path, step: Callable[[Shelf], Any], caplog: pytest.LogCaptureFixture
) -> None:
    with held(file) as other:
        freed = threading.Timer(0.3, other.execute, ("ROLLBACK",))
        freed.start()
        step(shelf_over(file))
        freed.join()
    assert "waiting for it" in caplog.text


@pytest.mark.usefixtures("hasty")
@pytest.mark.parametrize("step", STEPS)
def test_a_file_that_stays_held_is_named_in_one_sentence(
    file: Path, step: Callable[[Shelf], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(books, "PATIENCE", 0.1)
    with held(file), pytest.raises(BadSettings, match=r"rerankd\.db \(server\.database\) is held by another process"):
        step(shelf_over(file))


@pytest.mark.parametrize("step", STEPS)
def test_a_file_that_is_no_database_is_named_in_one_sentence(tmp_path: Path, step: Callable[[Shelf], Any]) -> None:
    file = tmp_path / "rerankd.db"
    file.write_bytes(b"no database" * 1000)
    with pytest.raises(BadSettings, match=r"rerankd\.db \(server\.database\) cannot be used"):
        step(shelf_over(file))


def test_a_file_that_fails_in_the_midst_is_named_in_one_sentence(file: Path) -> None:
    with closing(sqlite3.connect(file, isolation_level=None)) as other:
        other.execute("DELETE FROM keys")
        other.execute("CREATE TRIGGER full BEFORE INSERT ON keys BEGIN SELECT fails(); END")
    with pytest.raises(BadSettings, match=r"rerankd\.db \(server\.database\) cannot be used"):
        shelf_over(file).admin_key()


def test_a_chore_that_holds_the_database_does_not_keep_a_server_from_starting(tmp_path: Path) -> None:
    """The first start makes the admin's key. It did so while the event loop stood still, and with it the chore that was to
    let go of the file.
    """
    command = [sys.executable, "-c", A_CHORE_THAT_TAKES_LONG, "serve", "--model", "lexical", "--port", "0", "--json"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    with (tmp_path / "log").open("w+") as log:
        with subprocess.Popen(command, cwd=tmp_path, env=environment, stdout=subprocess.PIPE, stderr=log) as server:
            assert server.stdout is not None
            said = server.stdout.readline()
            server.terminate()
        log.seek(0)
        logged = log.read()
    assert json.loads(said or b"{}").keys() >= {"url", "admin_key"}, logged
    assert "pending" not in logged
