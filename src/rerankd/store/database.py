"""The database: made, with mode 0600, when something is to be kept, and brought up to date before it is first used.

What was answered with success is on the disk: SQLite writes ahead (WAL) and waits for the disk (FULL). What goes wrong in it
is told as an error of ours; a value that was to be written is in no message and no log.
"""

from __future__ import annotations

import asyncio
import logging
import os
import sqlite3
import threading
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager, closing
from pathlib import Path
from time import sleep
from types import ModuleType
from typing import Any, TypeVar

from sqlalchemy import Connection, event
from sqlalchemy.engine import make_url
from sqlalchemy.exc import IntegrityError, SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine
from sqlalchemy.pool import NullPool

from rerankd.errors import BadSettings, EngineError

log = logging.getLogger("rerankd.store")
for talkative in ("aiosqlite", "alembic"):
    logging.getLogger(talkative).setLevel(logging.WARNING)  # the former logs every value

Result = TypeVar("Result")

PRIVATE = 0o600
WAL_TRIES, WAL_WAIT = 100, 0.05
PRAGMAS = ("busy_timeout = 5000", "synchronous = FULL", "foreign_keys = ON", "secure_delete = ON")


class Database:
    """The SQLite file of `url`. Nothing is opened, and no file made, before the first `transaction`.

    Connections are made for a transaction and closed after it, so any event loop may use it.
    """

    def __init__(self, url: str) -> None:
        self.file = Path(make_url(url).database or "")
        self._engine = _engine(url)
        self._current = False

    @property
    def exists(self) -> bool:
        """Whether something was ever kept."""
        return self.file.exists()

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[AsyncConnection]:
        """All of what happens in the block, or nothing.

        Raises `BadSettings` where the database cannot be brought up to date, `EngineError` where it fails later, and
        lets `IntegrityError` out, which says that a name is taken.
        """
        if not (self._current and self.exists):  # it may have been deleted
            await self._bring_up_to_date()
            self._current = True
        try:
            async with self._engine.begin() as connection:
                yield connection
        except IntegrityError:
            raise
        except (SQLAlchemyError, sqlite3.Error, OSError) as error:
            log.error("the database %s failed: %s", self.file, _reason(error))
            raise EngineError("The database failed; nothing was changed. The server's log says why.") from None

    async def _bring_up_to_date(self) -> None:
        migrations = await asyncio.to_thread(_migrations)
        try:
            await asyncio.to_thread(_make, self.file)
            async with self._engine.begin() as connection:
                await connection.run_sync(migrations.upgrade)
        except migrations.NewerVersion:
            raise BadSettings(f"{self.file} (server.database) was written by a newer version of rerankd.") from None
        except (SQLAlchemyError, sqlite3.Error, OSError) as error:
            raise BadSettings(f"The database {self.file} (server.database) cannot be used: {_reason(error)}.") from None


def blocking(work: Callable[[], Coroutine[Any, Any, Result]]) -> Result:
    """What `work` returns, for where there is no event loop to await it in, or one that is not ours to block otherwise."""
    outcome: list[Result] = []
    failed: list[BaseException] = []

    def run() -> None:
        try:
            outcome.append(asyncio.run(work()))
        except BaseException as error:  # handed on to who waits
            failed.append(error)

    thread = threading.Thread(target=run, name="store")
    thread.start()
    thread.join()
    if failed:
        raise failed[0]
    return outcome[0]


def _engine(url: str) -> AsyncEngine:
    engine = create_async_engine(
        make_url(url).set(drivername="sqlite+aiosqlite"), poolclass=NullPool, hide_parameters=True
    )

    def connected(connection: Any, _: object) -> None:
        connection.isolation_level = None  # the driver would leave DDL and reads outside of the transaction
        cursor = connection.cursor()
        for pragma in PRAGMAS:
            cursor.execute(f"PRAGMA {pragma}")
        cursor.close()

    def begun(connection: Connection) -> None:
        connection.exec_driver_sql("BEGIN IMMEDIATE")  # a transaction that reads first could fail when it writes

    event.listen(engine.sync_engine, "connect", connected)
    event.listen(engine.sync_engine, "begin", begun)
    return engine


def _migrations() -> ModuleType:
    """Half a second's import, which a server without a database saves."""
    from rerankd.store import migrations

    return migrations


def _make(file: Path) -> None:
    """For its owner alone, as SQLite then makes the files beside it; and writing ahead, which stays so."""
    try:
        os.close(os.open(file, os.O_CREAT | os.O_EXCL | os.O_RDWR, PRIVATE))
    except FileExistsError:
        if file.stat().st_mode & 0o777 != PRIVATE:
            file.chmod(PRIVATE)
    with closing(sqlite3.connect(file, isolation_level=None)) as connection:
        for left in reversed(range(WAL_TRIES)):
            try:
                connection.execute("PRAGMA journal_mode = WAL")
                return
            except sqlite3.OperationalError as error:
                if not left or error.sqlite_errorcode != sqlite3.SQLITE_BUSY:
                    raise
                sleep(WAL_WAIT)  # another does the same, and SQLite does not wait for that itself, whatever its timeout


def _reason(error: Exception) -> str:
    """The driver's own words, which name no value: parameters are hidden."""
    return str(getattr(error, "orig", None) or getattr(error, "strerror", None) or error)
