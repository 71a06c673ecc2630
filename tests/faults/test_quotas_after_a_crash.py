"""A server is killed with requests under way: what those had taken is given back, and what was used stays used."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, closing
from string import ascii_letters
from time import monotonic

from redis import Redis

from rerankd.accounts import Quotas
from rerankd.estimate import estimated_request
from rerankd.store.database import Database
from rerankd.store.key_records import KeyChange
from rerankd.store.keys import KeyStore
from rerankd.types import Document, RerankRequest
from tests.faults.site import PEPPER, Nursery, Server, Site, audited, nursery, under_load
from tests.faults.traffic import Traffic, head_from

SOAK = bool(os.environ.get("SOAK"))
HOW = () if SOAK else ("hurried",)
HELD = 4
"""Requests under way when the server is killed."""
LATEST = 120.0 if SOAK else 30.0
"""Seconds after which all is given back: in the short form the server counts in seconds what takes a minute."""
FITS, TOO_MUCH = "a" * 400, "a" * 404
"""Documents that differ by one token of the estimate."""
SLOW = """
deadline = 10
[[channels]]
name = "slow"
dialect = "jina"
base_url = "http://127.0.0.1:{port}"
models = {{slow = "slow"}}
allow_private = true
"""


def estimate(document: str) -> int:
    return estimated_request(RerankRequest(query="q", documents=(Document(document),)))


@asynccontextmanager
async def never_answering(taken: list[None]) -> AsyncIterator[int]:
    """The port of an upstream that takes requests, and no more."""

    async def take(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with closing(writer):
            await reader.readuntil(b"\r\n\r\n")
            taken.append(None)
            await reader.read()

    async with await asyncio.start_server(take, "127.0.0.1", 0) as upstream:
        yield upstream.sockets[0].getsockname()[1]


@asynccontextmanager
async def asked(server: Server, traffic: Traffic, fields: object) -> AsyncIterator[asyncio.StreamReader]:
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    with closing(writer):
        writer.write(traffic.post("probe", fields))
        yield reader


async def status_of(server: Server, traffic: Traffic, document: str) -> int:
    async with asked(server, traffic, {"query": "q", "documents": [document]}) as reader:
        return (await head_from(reader))[1]


def reserved(site: Site, taken: list[None]) -> int:
    """How many of the requests that take long have taken of the quota: in Redis, by what they took, or here."""
    if site.redis is None:
        return len(taken)
    with Redis(port=site.redis.port) as redis:
        members = redis.zrange(f"rerankd:limits:1:key:{site.key_id}:R", 0, -1)
    assert isinstance(members, list)
    return sum(member.endswith(f" {estimate(FITS)}".encode()) for member in members)


@asynccontextmanager
async def killed_while_busy(site: Site, traffic: Traffic) -> AsyncIterator[Nursery]:
    """A server was, under load, and with `HELD` requests under way that had taken of the quota; others can follow it."""
    taken: list[None] = []
    async with never_answering(taken) as port, AsyncExitStack() as held:
        site.more = SLOW.format(port=port)
        servers = await held.enter_async_context(nursery(site, *HOW))
        async with under_load(servers, traffic) as server:
            for query in ascii_letters:  # another each time, or they would wait for one answer together
                fields = {"model": "slow", "query": query, "documents": [FITS]}
                before = len(taken)
                await held.enter_async_context(asked(server, traffic, fields))
                await traffic.until(lambda before=before: len(taken) > before)  # type: ignore[misc]
                if reserved(site, taken) >= HELD:  # Redis may not have been asked while the machine was busy
                    break
        assert reserved(site, taken) >= HELD, "a dead process has nothing to give back"
        yield servers


async def quota_of(site: Site, total: int) -> None:
    database = Database(site.database)
    await KeyStore(database, PEPPER).update("load", KeyChange(quotas=Quotas(total=total)), actor="test")
    await database.close()


async def leave_one_request(site: Site) -> None:
    """Of the quota, as the ledger's rows are added up."""
    assert estimate(TOO_MUCH) == estimate(FITS) + 1
    used = sum(row.tokens for row in await audited(site))
    assert used
    await quota_of(site, used + estimate(FITS))


async def refused_until_exact(servers: Nursery, traffic: Traffic) -> int:
    """How often a new server refuses what is just left, until it lets it in; one token more it never does."""
    server, began, refused = await servers.serve(), monotonic(), 0
    try:
        while monotonic() - began < LATEST:
            assert await status_of(server, traffic, TOO_MUCH) == 429, "used tokens are forgotten"
            if await status_of(server, traffic, FITS) == 200:
                print(f"the quota was exact {monotonic() - began:.1f} s after the next start")  # noqa: T201
                return refused
            refused += 1
            await asyncio.sleep(0.2)
    finally:
        server.kill()
    raise AssertionError("what a dead process had taken stays taken")


async def test_in_memory_a_quota_is_exact_at_once(on_sqlite: Site) -> None:
    traffic = Traffic(on_sqlite.key)
    async with killed_while_busy(on_sqlite, traffic) as servers:
        await leave_one_request(on_sqlite)
        assert await refused_until_exact(servers, traffic) == 0


async def test_in_redis_it_is_once_a_dead_process_is_forgotten(on_postgres: Site) -> None:
    traffic = Traffic(on_postgres.key)
    async with killed_while_busy(on_postgres, traffic) as servers:
        await leave_one_request(on_postgres)
        await refused_until_exact(servers, traffic)
