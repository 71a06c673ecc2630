"""The database, SQLite's or PostgreSQL's: brought up to date before it is first used, and durable when it has said so.

What goes wrong in it is told as an error of ours; a value that was to be written is in no message and no log, nor is the
URL's password.
"""

from __future__ import annotations

import asyncio
import logging
import sqlite3
import threading
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from types import ModuleType
from typing import Any, Protocol, TypeVar

from sqlalchemy.engine import make_url
from sqlalchemy.exc import IntegrityError, SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection

from rerankd.errors import BadSettings, RerankError, StoreUnavailable
from rerankd.store.postgres import UNDEFINED_TABLE, Away, Postgres
from rerankd.store.sqlite import Sqlite

log = logging.getLogger("rerankd.store")
for talkative in ("aiosqlite", "alembic", "psycopg"):
    logging.getLogger(talkative).setLevel(logging.WARNING)  # the first logs every value

Result = TypeVar("Result")

SECONDS, UPGRADE_SECONDS = 5.0, 300.0
FAILURES = (SQLAlchemyError, sqlite3.Error, OSError, Away)


class Place(Protocol):
    """One kind of database. `shown` is how messages call it."""

    @property
    def shown(self) -> str: ...
    @property
    def exists(self) -> bool: ...
    @property
    def trouble(self) -> str: ...
    async def make(self) -> None: ...
    def begun(
        self, seconds: float, *, insist: bool, reading: bool = ...
    ) -> AbstractAsyncContextManager[AsyncConnection]: ...
    async def lock(self, connection: AsyncConnection) -> None: ...
    def reason(self, error: Exception) -> str: ...
    def failure(self, error: Exception) -> RerankError: ...
    async def close(self) -> None: ...


class Database:
    """That of `url`, sqlite:///FILE or postgresql://USER:PASSWORD@HOST/NAME. Any event loop may use it.

    Nothing is opened, and no file made, before the first `transaction`. Raises `BadSettings` where PostgreSQL's client is
    not installed.
    """

    def __init__(self, url: str) -> None:
        parsed = make_url(url)
        sqlite = parsed.get_backend_name() == "sqlite"
        self._place: Place = Sqlite(parsed) if sqlite else Postgres(parsed)
        self._current = False
        self.is_postgres = not sqlite
        self.file = Path(parsed.database or "") if sqlite else None

    def __repr__(self) -> str:
        return f"Database({self.shown})"

    @property
    def shown(self) -> str:
        """What messages call it: the file, or the host and the name; without user and password."""
        return self._place.shown

    @property
    def exists(self) -> bool:
        """Whether something may have been kept: of PostgreSQL only asking tells."""
        return self._place.exists

    @asynccontextmanager
    async def transaction(
        self, seconds: float = SECONDS, *, insist: bool = False, reading: bool = False
    ) -> AsyncIterator[AsyncConnection]:
        """All of what happens in the block, or nothing. One that is `reading` and no more keeps nobody from writing.

        On PostgreSQL it takes at most `seconds`, and 2 more to begin; and while the server is known to be away nobody waits,
        but who `insist`s. Raises `StoreUnavailable` where it is away or busy, `BadSettings` where the database cannot be
        brought up to date, `EngineError` where it fails otherwise, and lets `IntegrityError` out, which says that a name is
        taken.
        """
        await self.ready(insist=insist)
        try:
            async with self._place.begun(seconds, insist=insist, reading=reading) as connection:
                yield connection
        except IntegrityError:
            raise
        except FAILURES as error:
            raise self.failure(error) from None

    async def ready(self, *, insist: bool = True) -> None:
        """Brought up to date, where it is not. Raises as `transaction` does."""
        if not (self._current and self.exists):  # it may have been deleted
            await self._bring_up_to_date(insist=insist)

    def failure(self, error: Exception) -> RerankError:
        """What is to be raised for it; the log says more."""
        if getattr(getattr(error, "orig", None), "sqlstate", None) == UNDEFINED_TABLE:
            self._current = False  # somebody has put another in its place
        failure = self._place.failure(error)
        if not isinstance(failure, StoreUnavailable):
            log.error("the database %s failed: %s", self.shown, self._place.reason(error))
        return failure

    async def upgrade(self) -> tuple[str, str]:
        """The version that it had, empty where it had none, and the one that it has now. Raises as `transaction` does."""
        return await self._bring_up_to_date(insist=True)

    @property
    def trouble(self) -> str:
        """Why it is away, for who runs it; empty where it is there, as far as is known."""
        return self._place.trouble

    async def close(self) -> None:
        """Lets go of what is kept open in the running event loop; the end of the loop does so as well."""
        await self._place.close()

    async def _bring_up_to_date(self, *, insist: bool) -> tuple[str, str]:
        migrations = await asyncio.to_thread(_migrations)
        place = self._place
        seconds = UPGRADE_SECONDS if insist else SECONDS  # a request does not wait for long, whoever upgrades
        try:
            await place.make()
            async with place.begun(seconds, insist=insist) as connection:
                await place.lock(connection)
                steps: tuple[str, str] = await connection.run_sync(migrations.upgrade)
        except migrations.NewerVersion:
            raise BadSettings(f"{self.shown} (server.database) was written by a newer version of rerankd.") from None
        except FAILURES as error:
            failure = place.failure(error)
            if isinstance(failure, StoreUnavailable):
                raise failure from None
            reason = place.reason(error)
            raise BadSettings(f"The database {self.shown} (server.database) cannot be used: {reason}.") from None
        self._current = True
        return steps


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


def _migrations() -> ModuleType:
    """Half a second's import, which a server without a database saves."""
    from rerankd.store import migrations

    return migrations
