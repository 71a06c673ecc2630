"""The server is killed under load, again and again, and whatever a client was given is in its ledger exactly once.

With PostgreSQL, that and Redis are killed and stopped meanwhile; the clients do not notice.
"""

from __future__ import annotations

import asyncio
import os
import resource
from collections.abc import Callable
from itertools import cycle, islice
from random import Random
from time import time

import pytest

from tests.faults.site import Site, check_books, nursery, under_load
from tests.faults.traffic import CLIENTS, Traffic

SOAK = bool(os.environ.get("SOAK"))
ROUNDS = 1000 if SOAK else 20
ROUNDS_WITH_OTHERS = 200 if SOAK else 6
SHORTEST, LONGEST = 0.02, 0.4
"""Seconds for which all goes well under load, and for which something does not."""


def fates(site: Site) -> dict[str, tuple[Callable[[], None], Callable[[], None]]]:
    """What becomes of the others while a server lives, and how that ends."""
    assert site.postgres is not None
    assert site.redis is not None
    return {
        "nothing": (lambda: None, lambda: None),
        "postgres is killed": (site.postgres.kill, site.postgres.start),
        "postgres stands still": (site.postgres.pause, site.postgres.resume),
        "redis is killed": (site.redis.kill, site.redis.start),
        "redis stands still": (site.redis.pause, site.redis.resume),
    }


async def test_whatever_was_answered_is_in_the_ledger_once_however_often_the_server_is_killed(on_sqlite: Site) -> None:
    chance = Random(seed := int(time()))  # noqa: S311  (it spreads moments, and guards nothing)
    traffic = Traffic(on_sqlite.key)
    async with nursery(on_sqlite) as servers:
        for _ in range(ROUNDS):
            async with under_load(servers, traffic):
                await asyncio.sleep(chance.uniform(SHORTEST, LONGEST))
    rows = await check_books(on_sqlite, traffic)
    told(f"seed {seed}: {ROUNDS} kills", traffic, rows)
    assert not traffic.refused
    assert len(traffic.sent) > len(traffic.answered) >= ROUNDS * CLIENTS


async def test_neither_is_anything_lost_or_doubled_where_its_database_and_redis_are_killed_or_stopped_too(
    on_postgres: Site,
) -> None:
    chance = Random(seed := int(time()))  # noqa: S311
    traffic = Traffic(on_postgres.key)
    met = list(fates(on_postgres).values())
    chance.shuffle(met)
    async with nursery(on_postgres) as servers:
        for begin, end in islice(cycle(met), ROUNDS_WITH_OTHERS):
            async with under_load(servers, traffic):
                await asyncio.sleep(chance.uniform(SHORTEST, LONGEST))
                await asyncio.to_thread(begin)
                await traffic.more()
                await asyncio.sleep(chance.uniform(SHORTEST, LONGEST))
                ends_first = chance.random() < 0.5
                if ends_first:
                    await asyncio.to_thread(end)
                    await traffic.more()
                    await asyncio.sleep(chance.uniform(SHORTEST, LONGEST))
            if not ends_first:
                await asyncio.to_thread(end)
    rows = await check_books(on_postgres, traffic)
    told(f"seed {seed}: {ROUNDS_WITH_OTHERS} kills with PostgreSQL and Redis", traffic, rows)
    assert traffic.refused.keys() <= {503}  # Redis may not be heard in time on a busy machine, while PostgreSQL is away
    assert len(traffic.sent) > len(traffic.answered) >= 2 * ROUNDS_WITH_OTHERS * CLIENTS


async def test_a_ledger_that_nobody_waits_for_is_found_out(site: Site) -> None:
    traffic = Traffic(site.key)
    async with nursery(site, "careless") as servers, under_load(servers, traffic):
        await asyncio.sleep(SHORTEST)
    with pytest.raises(AssertionError, match="answers were given that are in no row"):
        await check_books(site, traffic)


async def test_a_spool_that_forgets_before_it_has_sent_is_found_out(on_postgres: Site) -> None:
    traffic = Traffic(on_postgres.key)
    begin, end = fates(on_postgres)["postgres is killed"]
    async with nursery(on_postgres, "hasty") as servers, under_load(servers, traffic):
        await asyncio.to_thread(begin)
        await traffic.more()
        await asyncio.sleep(LONGEST)  # until some of that was to be sent
    await asyncio.to_thread(end)
    with pytest.raises(AssertionError, match="answers were given that are in no row"):
        await check_books(on_postgres, traffic)


@pytest.mark.skipif(not hasattr(resource, "prlimit"), reason="only Linux can take space from a running process")
async def test_a_disk_without_space_is_503_for_all_until_there_is_some(site: Site) -> None:
    traffic = Traffic(site.key)
    async with nursery(site) as servers, under_load(servers, traffic) as server:
        space = resource.prlimit(server.pid, resource.RLIMIT_FSIZE)
        resource.prlimit(server.pid, resource.RLIMIT_FSIZE, (4096, space[1]))
        await traffic.until(lambda: traffic.refused[503] >= CLIENTS)
        before, seen = len(traffic.answered), traffic.refused[503]
        await traffic.until(lambda: traffic.refused[503] >= seen + 5 * CLIENTS)
        assert len(traffic.answered) == before
        resource.prlimit(server.pid, resource.RLIMIT_FSIZE, space)
        await traffic.more(5 * CLIENTS)
    assert traffic.refused.keys() == {503}
    rows = await check_books(site, traffic)
    told("a full disk", traffic, rows)


def told(what: str, traffic: Traffic, rows: int) -> None:
    refused = dict(traffic.refused)
    print(f"{what}: {len(traffic.sent)} requests, {len(traffic.answered)} answers, refused {refused}, {rows} rows")  # noqa: T201
