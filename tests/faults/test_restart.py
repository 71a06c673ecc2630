"""A server is told to end, under load: what it has let in it answers, and that and no more is in its ledger."""

from __future__ import annotations

import asyncio
import os
import signal
from time import monotonic

from tests.faults.site import Nursery, Server, Site, check_books, nursery, under_load
from tests.faults.traffic import CLIENTS, Traffic

RESTARTS = 50 if os.environ.get("SOAK") else 5
LOADED = 0.2
"""Seconds."""
LONGEST_END = 45.0  # alone it takes seven seconds; other tests run beside it
"""Seconds, of which 5 are for what is still to be sent to PostgreSQL."""


async def ended(servers: Nursery, server: Server) -> float:
    """After how many seconds the server has, in good order."""
    began = monotonic()
    os.kill(server.pid, signal.SIGTERM)
    assert await asyncio.wait_for(servers.wait(), LONGEST_END) == 0
    return monotonic() - began


async def everything_let_in_was_answered(site: Site, traffic: Traffic, ends: int) -> None:
    """Each client's last request may have come too late, and is then in no row: it can be sent again."""
    rows = await check_books(site, traffic)
    assert rows == len(traffic.answered), "a request that was let in was not answered"
    assert len(traffic.sent) - rows - traffic.refused.total() <= ends * CLIENTS


async def test_a_restart_under_load_fails_no_request_and_loses_no_row(site: Site) -> None:
    traffic, slowest = Traffic(site.key), 0.0
    async with nursery(site) as servers:
        for _ in range(RESTARTS):
            async with under_load(servers, traffic) as server:
                await asyncio.sleep(LOADED)
                slowest = max(slowest, await ended(servers, server))
    seen = f"{len(traffic.sent)} requests, {len(traffic.answered)} answers"
    print(f"{RESTARTS} restarts, {seen}, at most {slowest:.2f} s")  # noqa: T201
    await everything_let_in_was_answered(site, traffic, RESTARTS)
    assert not traffic.refused


async def test_it_ends_in_time_while_postgres_stands_still_and_the_next_one_sends_what_is_left(
    on_postgres: Site,
) -> None:
    assert on_postgres.postgres is not None
    traffic = Traffic(on_postgres.key)
    async with nursery(on_postgres) as servers, under_load(servers, traffic) as server:
        on_postgres.postgres.pause()
        await traffic.more()
        took = await ended(servers, server)
    on_postgres.postgres.resume()
    print(f"ended after {took:.2f} s with PostgreSQL stopped")  # noqa: T201
    await everything_let_in_was_answered(on_postgres, traffic, 1)
