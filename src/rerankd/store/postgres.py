"""PostgreSQL as the database: whatever it does, or stops doing, nobody waits for it longer than was agreed.

A server that stands still keeps its connections open and answers nothing, not even that a statement is cancelled. So it is
our end of the connection that is cut when the time is over.
"""

from __future__ import annotations

import asyncio
import importlib.util
import os
import socket
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager, suppress
from contextvars import ContextVar
from typing import Any

from sqlalchemy import URL, event, text
from sqlalchemy.exc import DataError, DBAPIError, OperationalError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as NoneFree
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from rerankd.errors import BadSettings, EngineError, RerankError, StoreUnavailable
from rerankd.store.outage import Outage

CLIENT = "server.database is PostgreSQL, which needs its client: pip install 'rerankd[postgres]'"
CONNECTIONS, MORE_CONNECTIONS = 4, 4
"""Kept, and made beyond them for a moment, by each event loop."""
PATIENCE, FREE_PATIENCE, GRACE = 2.0, 1.5, 1.0
"""Seconds: to begin a transaction; for a free connection, of these; and beyond the server's own limits of one statement."""
IDLE = 600
"""Seconds after which a connection that nobody used is made anew: what stands between may have forgotten it."""
LIMITS = text("SELECT set_config('statement_timeout', :limit, true), set_config('lock_timeout', :limit, true)")
ALONE = text("SELECT pg_advisory_xact_lock(7271108)")
"""While the tables are changed; the number is ours, and means nothing."""

AWAY = ("08", "57P", "53", "25006", "58")
"""Where SQLSTATE begins so, the server goes, comes, is full, may only be read, or has lost its disk."""
BUSY = ("40", "55P03", "57014")
"""Another was faster, or it took too long."""
SPEAKING = ("08", "42", "53", "54", "55", "57", "58", "25", "3D", "3F")
"""The server's own words go with these alone: they name tables, never values."""
UNFIT = ("22", "23")
UNDEFINED_TABLE = "42P01"


class Lifeline:
    """The connections of one transaction, which are cut when its time is over."""

    def __init__(self) -> None:
        self._connections: list[Any] = []
        self._timer: asyncio.TimerHandle | None = None
        self.was_cut = False

    def limit(self, seconds: float) -> None:
        self.let_go()
        self._timer = asyncio.get_running_loop().call_later(seconds, self._cut)

    def let_go(self) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def hold(self, connection: Any) -> None:
        self._connections.append(connection)

    def _cut(self) -> None:
        """Who waits hears at once that nobody is there; being cancelled, it would first wait for the server's consent."""
        self.was_cut = True
        for connection in self._connections:
            with suppress(Exception), socket.socket(fileno=os.dup(connection.fileno())) as end:
                end.shutdown(socket.SHUT_RDWR)


LINE: ContextVar[Lifeline] = ContextVar("LINE")
"""Of the transaction that is begun just now."""


KEEPERS: set[AsyncGenerator[None]] = set()
"""Of what is open: a loop knows its generators only as long as somebody holds on to them."""


class Away(Exception):
    """It did not answer, as far as is known."""


class UnfitValue(EngineError):
    """It refuses what was to be written, for what it is: it would do so again."""


class Postgres:
    """Each event loop has a few connections of its own, which are closed when the loop ends."""

    def __init__(self, url: URL) -> None:
        if importlib.util.find_spec("psycopg") is None:
            raise BadSettings(CLIENT)
        self.shown = f"{url.host}:{url.port or 5432}/{url.database}"
        self._url = url.set(drivername="postgresql+psycopg")
        self._engines: dict[asyncio.AbstractEventLoop, AsyncEngine] = {}
        self._keepers: dict[asyncio.AbstractEventLoop, AsyncGenerator[None]] = {}
        self._outage = Outage()
        self._probes: set[asyncio.Task[None]] = set()

    @property
    def exists(self) -> bool:
        """Always: only who asks can know."""
        return True

    @property
    def trouble(self) -> str:
        return self._outage.reason

    async def make(self) -> None:
        """Nothing: the database itself is made by who runs the server."""

    @asynccontextmanager
    async def begun(self, seconds: float, *, insist: bool, reading: bool = False) -> AsyncIterator[AsyncConnection]:
        """Readers are in nobody's way here. Raises `Away` without waiting while it is known to be so, unless one insists."""
        if self._outage.on and not insist:
            if self._outage.due():
                self._probe()
            raise Away
        line, asked = Lifeline(), self._outage.now()
        try:
            connection = await self._connection(line, seconds)
            self._outage.ended()
            line.limit(seconds + GRACE)
            try:
                yield connection
                await connection.commit()
            finally:
                await connection.close()
        except NoneFree:
            raise
        except (SQLAlchemyError, OSError) as error:
            if line.was_cut or _is_away(error):
                self._outage.began("it does not answer in time" if line.was_cut else self.reason(error), asked)
                raise Away from None
            raise
        finally:
            line.let_go()

    async def lock(self, connection: AsyncConnection) -> None:
        """Whoever changes the tables is alone until the end of the transaction."""
        await connection.execute(ALONE)

    def reason(self, error: Exception) -> str:
        """What may be logged: no password, and no value that was to be written."""
        if isinstance(error, Away):
            return self._outage.reason
        if isinstance(error, TimeoutError):
            return f"it does not answer within {PATIENCE:g} s"
        cause: Any = getattr(error, "orig", None) or error
        state = _state(error)
        said = str(cause).partition("\n")[0] if not state else type(cause).__name__
        if state.startswith(SPEAKING):
            said += f" ({cause.diag.message_primary})"
        return said.replace(str(self._url.password), "***") if self._url.password else said

    def failure(self, error: Exception) -> RerankError:
        if isinstance(error, Away):
            return StoreUnavailable("The database is away; try again.", retry_after=self._outage.remaining)
        if isinstance(error, NoneFree) or _state(error).startswith(BUSY):
            return StoreUnavailable("The database is busy; nothing was changed. Try again.", retry_after=1.0)
        if isinstance(error, DataError) or _state(error).startswith(UNFIT):
            return UnfitValue("The database takes no such value; nothing was changed. The server's log says why.")
        return EngineError("The database failed; nothing was changed. The server's log says why.")

    async def close(self) -> None:
        """Those of the running event loop."""
        keeper = self._keepers.get(asyncio.get_running_loop())
        if keeper is not None:
            await keeper.aclose()

    async def _connection(self, line: Lifeline, seconds: float) -> AsyncConnection:
        """One on which a transaction has begun. That a connection which was kept is dead is met here, and mended."""
        engine = await self._engine()
        token = LINE.set(line)
        line.limit(PATIENCE)
        try:
            for again in (True, False):
                connection = await engine.connect()
                try:
                    await connection.execute(LIMITS, {"limit": str(int(seconds * 1000))})
                except BaseException as error:
                    await connection.close()
                    lost = isinstance(error, DBAPIError) and error.connection_invalidated
                    if not (again and lost) or line.was_cut:
                        raise
                else:
                    return connection
            raise AssertionError
        finally:
            LINE.reset(token)

    def _probe(self) -> None:
        task = asyncio.get_running_loop().create_task(self._probed())
        self._probes.add(task)  # the loop itself holds on to none
        task.add_done_callback(self._probes.discard)

    async def _probed(self) -> None:
        with suppress(Away, SQLAlchemyError):
            async with self.begun(PATIENCE, insist=True):
                pass

    async def _engine(self) -> AsyncEngine:
        loop = asyncio.get_running_loop()
        if loop not in self._engines:
            keeper = self._keepers[loop] = self._until_the_loop_ends(loop)
            KEEPERS.add(keeper)
            await anext(keeper)
        return self._engines[loop]

    async def _until_the_loop_ends(self, loop: asyncio.AbstractEventLoop) -> AsyncGenerator[None]:
        """Holds its engine: a loop that is closed properly ends the generators that it has begun, and so this one."""
        engine = _engine(self._url)
        self._engines[loop] = engine
        try:
            yield
        finally:
            del self._engines[loop]
            KEEPERS.discard(self._keepers.pop(loop))
            await engine.dispose()


def _engine(url: URL) -> AsyncEngine:
    """Raises `BadSettings` where the client cannot be used."""
    try:
        engine = create_async_engine(
            url,
            hide_parameters=True,
            pool_size=CONNECTIONS,
            max_overflow=MORE_CONNECTIONS,
            pool_timeout=FREE_PATIENCE,
            pool_recycle=IDLE,
            pool_use_lifo=True,
            use_native_hstore=False,  # a question less
            connect_args={
                "connect_timeout": int(PATIENCE),
                "application_name": "rerankd",
                "prepare_threshold": None,  # what is prepared outlives neither a change of the tables nor some proxies
                **({} if "gssencmode" in url.query else {"gssencmode": "disable"}),
            },
        )
    except ImportError:
        raise BadSettings(CLIENT) from None
    for happening in ("connect", "checkout"):  # the first before anything is asked on it
        event.listen(engine.sync_engine.pool, happening, _held, insert=True)
    return engine


def _held(connection: Any, *_: object) -> None:
    line = LINE.get(None)
    if line is not None:
        line.hold(connection.driver_connection)


def _is_away(error: Exception) -> bool:
    """It is no longer there, was never, or says itself that it cannot."""
    if isinstance(error, OSError):
        return True
    if not isinstance(error, DBAPIError):
        return False
    state = _state(error)
    return error.connection_invalidated or state.startswith(AWAY) or (not state and isinstance(error, OperationalError))


def _state(error: Exception) -> str:
    return getattr(getattr(error, "orig", None), "sqlstate", None) or ""
