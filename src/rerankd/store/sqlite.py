"""SQLite as the database: a file for its owner alone, made when something is to be kept, which waits for the disk."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import URL, Connection, event
from sqlalchemy.ext.asyncio import AsyncConnection, create_async_engine
from sqlalchemy.pool import NullPool

from rerankd.errors import EngineError, RerankError, StoreUnavailable
from rerankd.store.durable_file import make_durable

READING = "rerankd_reading"
"""The option of an engine whose transactions take no lock for writing."""
PRIMARY = 0xFF
"""The part of SQLite's code of an error that says its kind."""
PRAGMAS = ("busy_timeout = 5000", "synchronous = FULL", "foreign_keys = ON", "secure_delete = ON")


class Sqlite:
    """Connections are made for a transaction and closed after it, so any event loop may use it."""

    def __init__(self, url: URL) -> None:
        self.file = Path(url.database or "")
        self.shown = str(self.file)
        self._engine = create_async_engine(
            url.set(drivername="sqlite+aiosqlite"), poolclass=NullPool, hide_parameters=True
        )
        self._reading = self._engine.execution_options(**{READING: True})
        event.listen(self._engine.sync_engine, "connect", _connected)
        event.listen(self._engine.sync_engine, "begin", _begun)

    @property
    def exists(self) -> bool:
        return self.file.exists()

    @property
    def trouble(self) -> str:
        return ""

    async def make(self) -> None:
        """Raises OSError or sqlite3.Error."""
        await asyncio.to_thread(make_durable, self.file)

    @asynccontextmanager
    async def begun(self, seconds: float, *, insist: bool, reading: bool = False) -> AsyncIterator[AsyncConnection]:
        """However long it takes, and whether one insists or not: there is nobody who could be away."""
        async with (self._reading if reading else self._engine).begin() as connection:
            yield connection

    async def lock(self, connection: AsyncConnection) -> None:
        """Nothing: whoever has begun is alone already."""

    def reason(self, error: Exception) -> str:
        """The driver's own words, which name no value: parameters are hidden."""
        return str(getattr(error, "orig", None) or getattr(error, "strerror", None) or error)

    def failure(self, error: Exception) -> RerankError:
        if _is_busy(error):
            return StoreUnavailable("The database is busy; nothing was changed. Try again.", retry_after=1.0)
        return EngineError("The database failed; nothing was changed. The server's log says why.")

    async def close(self) -> None:
        await self._engine.dispose()


def _is_busy(error: Exception) -> bool:
    """Another has it for longer than anybody waits: `PRAGMAS` says how long that is."""
    code = getattr(getattr(error, "orig", None) or error, "sqlite_errorcode", None)
    return code is not None and code & PRIMARY in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)


def _connected(connection: Any, _: object) -> None:
    connection.isolation_level = None  # the driver would leave DDL and reads outside of the transaction
    cursor = connection.cursor()
    for pragma in PRAGMAS:
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _begun(connection: Connection) -> None:
    reading = connection.get_execution_options().get(READING, False)
    connection.exec_driver_sql(
        "BEGIN" if reading else "BEGIN IMMEDIATE"
    )  # one that reads first could fail when it writes
