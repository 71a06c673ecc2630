from __future__ import annotations

import asyncio
import logging
import os
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import insert, inspect, select, text
from sqlalchemy.ext.asyncio import AsyncConnection

from rerankd.errors import BadSettings, EngineError
from rerankd.store.database import Database, blocking
from rerankd.store.tables import CHANNELS, METADATA

ROW: dict[str, Any] = {
    "name": "a",
    "fields": {},
    "host": "h",
    "sealed": None,
    "revision": "1",
    "created": 0,
    "updated": 0,
}


def database(folder: Path) -> Database:
    return Database(f"sqlite:///{folder / 'rerankd.db'}")


async def names(database: Database) -> list[str]:
    async with database.transaction() as connection:
        return list((await connection.execute(select(CHANNELS.c.name))).scalars())


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
    assert here.file.stat().st_mode & 0o777 == 0o600
    here.file.chmod(0o644)
    await names(database(tmp_path))
    assert here.file.stat().st_mode & 0o777 == 0o600


async def test_the_disk_is_waited_for(tmp_path: Path) -> None:
    async with database(tmp_path).transaction() as connection:
        found = [
            (await connection.execute(text(f"PRAGMA {name}"))).scalar() for name in ("journal_mode", "synchronous")
        ]
        keys = (await connection.execute(text("PRAGMA foreign_keys"))).scalar()
    assert (found, keys) == (["wal", 2], 1)


async def test_the_steps_lead_to_the_tables_as_they_are_now(tmp_path: Path) -> None:
    def described(connection: object) -> dict[str, set[tuple[str, str, bool]]]:
        seen = inspect(connection)
        return {
            table: {(column["name"], str(column["type"]), column["nullable"]) for column in seen.get_columns(table)}
            for table in seen.get_table_names()
            if table != "alembic_version"
        }

    async with database(tmp_path).transaction() as connection:
        found = await connection.run_sync(described)
    wanted = {
        table.name: {(column.name, str(column.type), bool(column.nullable)) for column in table.columns}
        for table in METADATA.tables.values()
    }
    assert found == wanted


async def test_a_block_that_fails_leaves_nothing_behind(tmp_path: Path) -> None:
    here = database(tmp_path)

    async def fail() -> None:
        async with here.transaction() as connection:
            await connection.execute(insert(CHANNELS).values(ROW))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await fail()
    assert await names(here) == []


async def test_two_who_begin_at_once_both_get_their_turn(tmp_path: Path) -> None:
    async def add(name: str) -> None:
        async with database(tmp_path).transaction() as connection:
            await connection.execute(insert(CHANNELS).values({**ROW, "name": name}))

    await asyncio.gather(*(add(name) for name in "abc"))
    assert sorted(await names(database(tmp_path))) == ["a", "b", "c"]


async def test_a_file_that_is_no_database_is_refused_by_name(tmp_path: Path) -> None:
    here = database(tmp_path)
    here.file.write_text("This is no database. " * 100)
    with pytest.raises(BadSettings, match=r"rerankd\.db \(server\.database\) cannot be used: .*not a database"):
        await names(here)


async def test_a_folder_that_is_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(BadSettings, match=r"cannot be used: No such file or directory"):
        await names(Database(f"sqlite:///{tmp_path}/none/rerankd.db"))


async def test_a_database_of_a_newer_version_is_refused(tmp_path: Path) -> None:
    async with database(tmp_path).transaction() as connection:
        await connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(BadSettings, match="newer version"):
        await names(database(tmp_path))


async def test_a_failure_while_it_runs_is_an_error_of_ours_without_the_values(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def write(connection: AsyncConnection) -> None:
        await connection.execute(text("INSERT INTO nowhere VALUES (:secret)"), {"secret": "sk-canary"})

    here = database(tmp_path)
    with pytest.raises(EngineError, match="nothing was changed") as caught, caplog.at_level(logging.DEBUG):
        async with here.transaction() as connection:
            await write(connection)
    assert "no such table: nowhere" in caplog.text
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
    here.file.unlink()
    assert await names(here) == []
    assert here.file.stat().st_mode & 0o777 == 0o600


async def test_a_file_that_cannot_be_written_is_said_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> int:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(BadSettings, match=r"cannot be used: Permission denied"):
        await names(database(tmp_path))
