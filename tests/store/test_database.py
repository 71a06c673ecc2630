from __future__ import annotations

import asyncio
import importlib.util
import logging
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import insert, inspect, select, text
from sqlalchemy.ext.asyncio import AsyncConnection

from rerankd.errors import BadSettings, EngineError, StoreUnavailable
from rerankd.store import migrations, postgres
from rerankd.store.database import Database, blocking
from rerankd.store.tables import CHANNELS, METADATA
from tests.store.postgres_server import PostgresServer

ROW: dict[str, Any] = {
    "name": "a",
    "fields": {},
    "host": "h",
    "sealed": None,
    "revision": "1",
    "created": 0,
    "updated": 0,
}
GENEROUS = 3.0
"""Seconds, beside those that are agreed, for a machine that does other things as well."""


def database(folder: Path) -> Database:
    return Database(f"sqlite:///{folder / 'rerankd.db'}")


def file_of(database: Database) -> Path:
    assert database.file is not None
    return database.file


async def names(database: Database) -> list[str]:
    async with database.transaction() as connection:
        return list((await connection.execute(select(CHANNELS.c.name))).scalars())


async def add(database: Database, name: str) -> None:
    async with database.transaction() as connection:
        await connection.execute(insert(CHANNELS).values({**ROW, "name": name}))


async def until(server_answers: Callable[[], Any]) -> None:
    """It is asked again and again, as requests would."""
    end = time.monotonic() + 10
    while True:
        try:
            await server_answers()
            return
        except StoreUnavailable:
            assert time.monotonic() < end
            await asyncio.sleep(0.02)


def test_no_file_is_made_before_something_is_to_be_kept(tmp_path: Path) -> None:
    assert not database(tmp_path).exists
    assert list(tmp_path.iterdir()) == []


async def test_the_file_is_for_its_owner_alone_even_if_it_was_not_before(tmp_path: Path) -> None:
    here = database(tmp_path)
    before = os.umask(0)
    try:
        await names(here)
    finally:
        os.umask(before)
    assert file_of(here).stat().st_mode & 0o777 == 0o600
    file_of(here).chmod(0o644)
    await names(database(tmp_path))
    assert file_of(here).stat().st_mode & 0o777 == 0o600


async def test_the_disk_is_waited_for(tmp_path: Path) -> None:
    async with database(tmp_path).transaction() as connection:
        found = [
            (await connection.execute(text(f"PRAGMA {name}"))).scalar() for name in ("journal_mode", "synchronous")
        ]
        keys = (await connection.execute(text("PRAGMA foreign_keys"))).scalar()
    assert (found, keys) == (["wal", 2], 1)


async def test_the_steps_lead_to_the_tables_as_they_are_now(database_url: str) -> None:
    def described(connection: Any) -> dict[str, dict[str, Any]]:
        seen = inspect(connection)
        return {
            table: {
                "columns": {
                    (column["name"], str(column["type"]), column["nullable"]) for column in seen.get_columns(table)
                },
                "indexes": {index["name"] for index in seen.get_indexes(table) if not index["unique"]},
                "key": set(seen.get_pk_constraint(table)["constrained_columns"]),
            }
            for table in seen.get_table_names()
            if table != "alembic_version"
        }

    def wanted(connection: Any) -> dict[str, dict[str, Any]]:
        return {
            table.name: {
                "columns": {
                    (column.name, column.type.compile(connection.dialect), bool(column.nullable))
                    for column in table.columns
                },
                "indexes": {str(index.name) for index in table.indexes},
                "key": {column.name for column in table.primary_key},
            }
            for table in METADATA.tables.values()
        }

    async with Database(database_url).transaction() as connection:
        assert await connection.run_sync(described) == await connection.run_sync(wanted)


async def test_an_upgrade_says_from_where_to_where_and_every_step_can_be_taken_back(database_url: str) -> None:
    here = Database(database_url)
    assert await here.upgrade() == ("", "0002")
    assert await here.upgrade() == ("0002", "0002")
    async with here.transaction() as connection:
        await connection.run_sync(migrations.downgrade, "0001")
    await add(here, "from then")
    assert await here.upgrade() == ("0001", "0002")
    assert await names(here) == ["from then"]
    async with here.transaction() as connection:
        await connection.run_sync(migrations.downgrade, "base")
        left = await connection.run_sync(lambda sync: inspect(sync).get_table_names())
    assert left == ["alembic_version"]
    assert await here.upgrade() == ("", "0002")


async def test_a_block_that_fails_leaves_nothing_behind(database_url: str) -> None:
    here = Database(database_url)

    async def fail() -> None:
        async with here.transaction() as connection:
            await connection.execute(insert(CHANNELS).values(ROW))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await fail()
    assert await names(here) == []


async def test_many_who_begin_at_once_all_get_their_turn(database_url: str) -> None:
    await asyncio.gather(*(add(Database(database_url), name) for name in "abc"))
    assert sorted(await names(Database(database_url))) == ["a", "b", "c"]


async def test_another_loop_is_no_hindrance(database_url: str) -> None:
    here = Database(database_url)
    await add(here, "a")
    assert await asyncio.to_thread(blocking, lambda: names(here)) == ["a"]
    assert await names(here) == ["a"]


async def test_a_file_that_is_no_database_is_refused_by_name(tmp_path: Path) -> None:
    here = database(tmp_path)
    file_of(here).write_text("This is no database. " * 100)
    with pytest.raises(BadSettings, match=r"rerankd\.db \(server\.database\) cannot be used: .*not a database"):
        await names(here)


async def test_a_folder_that_is_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(BadSettings, match=r"cannot be used: No such file or directory"):
        await names(Database(f"sqlite:///{tmp_path}/none/rerankd.db"))


async def test_a_database_of_a_newer_version_is_refused(database_url: str) -> None:
    async with Database(database_url).transaction() as connection:
        await connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(BadSettings, match="newer version"):
        await names(Database(database_url))


async def test_a_failure_while_it_runs_is_an_error_of_ours_without_the_values(
    database_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    async def write(connection: AsyncConnection) -> None:
        await connection.execute(text("INSERT INTO nowhere VALUES (:secret)"), {"secret": "sk-canary"})

    here = Database(database_url)
    with pytest.raises(EngineError, match="nothing was changed") as caught, caplog.at_level(logging.DEBUG):
        async with here.transaction() as connection:
            await write(connection)
    assert "nowhere" in caplog.text
    assert "sk-canary" not in caplog.text + repr(caught.value)


def test_a_start_can_wait_for_it_and_hears_what_went_wrong() -> None:
    async def good() -> int:
        return 1

    async def bad() -> int:
        raise BadSettings("no")

    assert blocking(good) == 1
    with pytest.raises(BadSettings, match="no"):
        blocking(bad)


async def test_a_file_that_was_deleted_is_made_anew_for_its_owner_alone(tmp_path: Path) -> None:
    here = database(tmp_path)
    await names(here)
    file_of(here).unlink()
    assert await names(here) == []
    assert file_of(here).stat().st_mode & 0o777 == 0o600


async def test_a_file_that_cannot_be_written_is_said_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> int:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(BadSettings, match=r"cannot be used: Permission denied"):
        await names(database(tmp_path))


async def test_without_the_client_of_postgresql_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    with pytest.raises(BadSettings, match=r"pip install 'rerankd\[postgres\]'"):
        Database("postgresql://u:p@localhost/rerankd")


async def test_a_value_that_the_server_repeats_in_its_complaint_is_not_logged(
    postgres_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    async def write(connection: AsyncConnection) -> None:
        await connection.execute(text("SELECT CAST(:secret AS INTEGER)"), {"secret": "sk-canary"})

    here = Database(postgres_url)
    with pytest.raises(EngineError) as caught, caplog.at_level(logging.DEBUG):
        async with here.transaction() as connection:
            await write(connection)
    assert "InvalidTextRepresentation" in caplog.text
    assert "sk-canary" not in caplog.text + repr(caught.value)


async def test_the_password_is_nowhere(
    postgres_server: PostgresServer, postgres_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    here = Database(postgres_url)
    with caplog.at_level(logging.DEBUG):
        await names(here)
        wrong = Database(postgres_url.replace(postgres_server.password, "canary-wrong"))
        for each in (wrong, Database("postgresql://u:canary-there@127.0.0.1:1/none")):
            with pytest.raises(StoreUnavailable) as caught:
                await names(each)
            assert "canary" not in repr(each) + repr(caught.value) + str(caught.value.__context__)
    assert "password authentication failed" in caplog.text
    assert "canary" not in caplog.text


async def test_a_server_that_is_killed_is_away_at_once_and_there_again_when_it_is(
    postgres_server: PostgresServer, postgres_url: str
) -> None:
    here = Database(postgres_url)
    await add(here, "before")
    postgres_server.kill()
    with pytest.raises(StoreUnavailable, match="away") as caught:
        await names(here)
    assert caught.value.retry_after
    postgres_server.start()
    await until(lambda: add(here, "after"))
    assert await names(here) == ["before", "after"]


async def test_a_restart_that_nobody_noticed_is_no_failure(postgres_server: PostgresServer, postgres_url: str) -> None:
    here = Database(postgres_url)
    await add(here, "before")
    postgres_server.kill()
    postgres_server.start()
    assert await names(here) == ["before"]


async def test_a_server_that_stands_still_is_waited_for_once_and_by_nobody_afterwards(
    postgres_server: PostgresServer, postgres_url: str
) -> None:
    here = Database(postgres_url)
    await asyncio.gather(*(names(here) for _ in range(6)))
    postgres_server.pause()
    began = time.monotonic()
    first = await asyncio.gather(*(names(here) for _ in range(20)), return_exceptions=True)
    assert {type(error) for error in first} == {StoreUnavailable}
    assert time.monotonic() - began < postgres.PATIENCE + GENEROUS
    for _ in range(20):
        began = time.monotonic()
        with pytest.raises(StoreUnavailable):
            await names(here)
        assert time.monotonic() - began < 0.5
        await asyncio.sleep(0.02)
    postgres_server.resume()
    await until(lambda: names(here))


async def test_a_server_that_stops_in_the_middle_of_a_transaction_holds_nobody(
    postgres_server: PostgresServer, postgres_url: str
) -> None:
    here = Database(postgres_url)
    await names(here)

    async def stopped_within() -> None:
        async with here.transaction(seconds=0.2) as connection:
            postgres_server.pause()
            await connection.execute(insert(CHANNELS).values(ROW))

    began = time.monotonic()
    with pytest.raises(StoreUnavailable):
        await stopped_within()
    assert time.monotonic() - began < 0.2 + postgres.GRACE + GENEROUS
    postgres_server.resume()
    await until(lambda: names(here))
    assert await names(here) == []


async def test_a_lock_that_another_holds_is_waited_for_no_longer_than_agreed(postgres_url: str) -> None:
    one, other = Database(postgres_url), Database(postgres_url)
    await add(one, "a")

    async def change() -> None:
        async with other.transaction(seconds=0.2) as connection:
            await connection.execute(text("UPDATE channels SET host = 'mine'"))

    async with one.transaction() as connection:
        await connection.execute(text("UPDATE channels SET host = 'theirs'"))
        with pytest.raises(StoreUnavailable, match="busy"):
            await change()
    await change()


async def test_tables_that_went_are_made_anew(postgres_server: PostgresServer, postgres_url: str) -> None:
    here = Database(postgres_url)
    await names(here)
    name = postgres_url.rpartition("/")[2]
    postgres_server.execute("DROP SCHEMA public CASCADE", name)
    postgres_server.execute("CREATE SCHEMA public", name)
    with pytest.raises(EngineError):
        await names(here)
    assert await names(here) == []
