"""A server as somebody runs it: its database, its key with limits and quotas, its processes, and an audit of its books."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import text

from rerankd.accounts import Entry, Limits, Quotas
from rerankd.store.check import check
from rerankd.store.database import Database
from rerankd.store.key_records import NewKey
from rerankd.store.keys import KeyStore
from rerankd.store.ledger import StoredLedger
from rerankd.store.sums import SumKey, Sums
from tests.faults.traffic import CLIENTS, PATIENCE, Traffic, client
from tests.store.adding import sums_of
from tests.store.postgres_server import PostgresServer
from tests.store.redis_server import RedisServer

HERE = Path(__file__).resolve().parents[2]
PEPPER = "a pepper of thirty-two characters and more"
NEVER_MET = 10**9
LIMITS = Limits(requests=NEVER_MET, tokens=NEVER_MET, documents=NEVER_MET, concurrency=NEVER_MET)
QUOTAS = Quotas(total=10**12, month=10**12, day=10**12)
CONFIG = """
pepper = "{pepper}"
defaults.model = "lexical"
models = [{{name = "lexical"}}]
prices.lexical = {{per_million_tokens = 0.9, per_thousand_searches = 0.5}}
cache.max_bytes = 0
[server]
port = 0
database = "{database}"
spool = "{spool}"
"""
ROWS = (
    "SELECT entry, request_id, at, key_id, model, channel, documents, status, tokens, cached_tokens, search_units, "
    "estimated, cost, kind FROM ledger"
)
USAGE = f"SELECT {', '.join((*SumKey._fields, *Sums._fields))} FROM usage"  # noqa: S608  (our names)


@dataclass
class Site:
    """Redis comes with PostgreSQL, as where several processes share both."""

    folder: Path
    database: str
    key_id: str
    key: str
    postgres: PostgresServer | None = None
    redis: RedisServer | None = None
    more: str = ""
    """Of the configuration."""

    @property
    def spool(self) -> Path:
        return self.folder / "spool"

    def configure(self) -> Path:
        config = self.folder / "rerankd.toml"
        written = CONFIG.format(pepper=PEPPER, database=self.database, spool=self.spool)
        redis = "" if self.redis is None else f'redis = "{self.redis.url}"\n'
        config.write_text(written + redis + self.more)
        return config


async def site_of(
    folder: Path, database: str, postgres: PostgresServer | None = None, redis: RedisServer | None = None
) -> Site:
    store = Database(database)
    new = NewKey(name="load", limits=LIMITS, quotas=QUOTAS)
    record, key = await KeyStore(store, PEPPER).create(new, actor="test")
    await store.close()
    return Site(folder, database, record.id, key.reveal(), postgres, redis)


@dataclass(frozen=True)
class Server:
    """Its process, and where it listens."""

    pid: int
    port: int

    def kill(self) -> None:
        with suppress(ProcessLookupError):  # it was told to end, and somebody has waited for that
            os.kill(self.pid, signal.SIGKILL)


class Nursery:
    """Starts servers of a site, one after the other."""

    def __init__(self, process: asyncio.subprocess.Process, log: Path) -> None:
        self._process = process
        self._log = log

    async def serve(self) -> Server:
        pid = int(await self._asked(b"serve\n"))
        while not (said := await self._line()).startswith(b"{"):
            pass
        return Server(pid, int(json.loads(said)["url"].rpartition(":")[2]))

    async def wait(self) -> int:
        """The status that the last one has ended with, once it has."""
        return int(await self._asked(b"wait\n"))

    async def _asked(self, wish: bytes) -> bytes:
        assert self._process.stdin is not None
        self._process.stdin.write(wish)
        return await self._line()

    async def _line(self) -> bytes:
        assert self._process.stdout is not None
        try:
            line = await asyncio.wait_for(self._process.stdout.readline(), PATIENCE)
        except TimeoutError:
            line = b""
        assert line, f"the server did not start: {self._log.read_text()[-3000:]}"
        return line


@asynccontextmanager
async def nursery(site: Site, *how: str) -> AsyncIterator[Nursery]:
    log = site.folder / "log"
    with log.open("ab") as logged:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "tests.faults.nursery", str(site.configure()), *how,
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=logged,
            cwd=HERE, env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        )  # fmt: skip
    try:
        yield Nursery(process, log)
    finally:
        assert process.stdin is not None
        process.stdin.close()
        await process.wait()


@asynccontextmanager
async def under_load(servers: Nursery, traffic: Traffic) -> AsyncIterator[Server]:
    """Clients ask it; at the end it is killed in the midst of that, if it is still there."""
    server = await servers.serve()
    clients = [asyncio.create_task(client(number, server.port, traffic)) for number in range(CLIENTS)]
    try:
        await traffic.more()
        yield server
    finally:
        server.kill()
        await asyncio.gather(*clients)


async def replay(site: Site) -> None:
    """What waits in the spool is brought into the database, as the next server would."""
    database = Database(site.database)
    ledger = StoredLedger(database, site.spool)
    await ledger.open()
    settled = await ledger.settled(2 * PATIENCE)
    await ledger.stop()
    ledger.close()
    await database.close()
    assert settled, "rows are left in the spool"


async def audited(site: Site) -> list[Entry]:
    """All rows; `rerankd db check` finds nothing wrong with them, none waits, and our own sums are the same."""
    await replay(site)
    database = Database(site.database)
    found = await check(database, site.spool, PEPPER)
    async with database.transaction(60, reading=True) as connection:
        rows = [Entry(**row) for row in (await connection.execute(text(ROWS))).mappings()]
        usage = [tuple(row) for row in await connection.execute(text(USAGE))]
    await database.close()
    assert found.well, found
    assert (found.waiting, found.rows) == (0, len(rows))
    assert len({row.entry for row in rows}) == len(rows)
    assert sorted(usage) == sorted((*key, *sums) for key, sums in sums_of(rows).items())
    return rows


async def check_books(site: Site, traffic: Traffic) -> int:
    """Whatever a client was given is in the ledger once, and nothing is there that nobody asked for; how many rows are."""
    rows = await audited(site)
    written = {row.request_id: row for row in rows}
    lost = traffic.answered.keys() - written.keys()
    assert not lost, f"{len(lost)} answers were given that are in no row"
    assert len(rows) == len(written), "a request has two rows"
    assert written.keys() <= traffic.sent, "a row is of a request that nobody sent"
    assert {row.key_id for row in rows} == {site.key_id}
    assert {(row.status, row.kind) for row in rows} <= {(200, "request"), (499, "request")}
    assert all(row.cost > 0 for row in rows if row.status == 200)
    for request_id, tokens in traffic.answered.items():
        assert written[request_id].status == 200
        assert tokens in (0, written[request_id].tokens), "the answer says another number of tokens"
    return len(rows)
