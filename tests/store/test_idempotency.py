from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from time import time

import pytest
from sqlalchemy import text

from rerankd.accounts import Completion
from rerankd.errors import Conflict, IdempotencyMismatch
from rerankd.store.database import Database
from rerankd.store.idempotency import (
    CLAIM,
    COMPLETE,
    KEPT,
    LONGER,
    Execute,
    InDatabase,
    StoredClaims,
    Transactions,
    kept,
)
from tests.policies.upstream import Clock

ASKED, OTHER = b"a" * 32, b"b" * 32
DONE = Completion(key_id="ann", idempotency_key="key", holder="1", response=b"answer")


async def complete(database: Database, key_id: str, key: str, holder: str, response: bytes, now: float) -> None:
    """As the ledger does it."""
    done = Completion(key_id=key_id, idempotency_key=key, holder=holder, response=response)
    async with database.transaction() as connection:
        await connection.execute(text(COMPLETE), dict(kept(done, now)))


class Keeping:
    """Claims with a clock to be turned; `beside` is what another process has of the same database."""

    def __init__(self, database: Database, own: Transactions, others: Transactions) -> None:
        self.clock = Clock()
        self.database = database
        self.transactions = own
        self.claims = StoredClaims(own, self.clock)
        self.beside = StoredClaims(others, self.clock)

    async def complete(self, holder: str, response: bytes = b"answer") -> None:
        await complete(self.database, "ann", "key", holder, response, self.clock.now)


@pytest.fixture
async def keeping(database_url: str) -> AsyncIterator[Keeping]:
    databases = [Database(database_url), Database(database_url)]
    for database in databases:
        await database.upgrade()
    yield Keeping(databases[0], *map(InDatabase, databases))
    for database in databases:
        await database.close()


async def test_the_first_works_the_others_wait_and_then_have_its_answer(keeping: Keeping) -> None:
    assert await keeping.claims.claim("ann", "key", ASKED, "1", 10) is None
    with pytest.raises(Conflict) as refused:
        await keeping.beside.claim("ann", "key", ASKED, "2", 10)
    assert refused.value.retry_after == 1.0
    await keeping.complete("1")
    assert await keeping.beside.claim("ann", "key", ASKED, "2", 10) == b"answer"


async def test_another_request_under_the_key_is_refused_whether_there_is_an_answer_or_not(keeping: Keeping) -> None:
    await keeping.claims.claim("ann", "key", ASKED, "1", 10)
    with pytest.raises(IdempotencyMismatch):
        await keeping.beside.claim("ann", "key", OTHER, "2", 10)
    await keeping.complete("1")
    with pytest.raises(IdempotencyMismatch):
        await keeping.beside.claim("ann", "key", OTHER, "2", 10)


async def test_a_key_belongs_to_its_caller(keeping: Keeping) -> None:
    await keeping.claims.claim("ann", "key", ASKED, "1", 10)
    await keeping.complete("1")
    assert await keeping.claims.claim("bob", "key", ASKED, "2", 10) is None


async def test_what_was_released_is_free_at_once_and_only_its_holder_releases_it(keeping: Keeping) -> None:
    await keeping.claims.claim("ann", "key", ASKED, "1", 10)
    await keeping.beside.release("ann", "key", "2")
    with pytest.raises(Conflict):
        await keeping.beside.claim("ann", "key", ASKED, "2", 10)
    await keeping.claims.release("ann", "key", "1")
    assert await keeping.beside.claim("ann", "key", OTHER, "2", 10) is None


async def test_an_answer_is_not_released(keeping: Keeping) -> None:
    await keeping.claims.claim("ann", "key", ASKED, "1", 10)
    await keeping.complete("1")
    await keeping.claims.release("ann", "key", "1")
    assert await keeping.claims.claim("ann", "key", ASKED, "2", 10) == b"answer"


async def test_a_claim_is_free_again_a_minute_after_its_deadline_and_what_comes_later_is_not_kept(
    keeping: Keeping,
) -> None:
    await keeping.claims.claim("ann", "key", ASKED, "1", 10)
    keeping.clock.now += 10 + LONGER - 1
    with pytest.raises(Conflict):
        await keeping.beside.claim("ann", "key", ASKED, "2", 10)
    keeping.clock.now += 1
    assert await keeping.beside.claim("ann", "key", ASKED, "2", 10) is None
    await keeping.complete("1", b"too late")
    await keeping.complete("2", b"in time")
    assert await keeping.claims.claim("ann", "key", ASKED, "3", 10) == b"in time"


async def test_an_answer_is_kept_for_a_day_and_pruned_then(keeping: Keeping) -> None:
    await keeping.claims.claim("ann", "key", ASKED, "1", 10)
    await keeping.complete("1")
    keeping.clock.now += KEPT - 1
    assert await keeping.claims.prune() == 0
    assert await keeping.claims.claim("ann", "key", ASKED, "2", 10) == b"answer"
    keeping.clock.now += 1
    assert await keeping.beside.prune() == 1
    assert await keeping.claims.claim("ann", "key", OTHER, "2", 10) is None


async def test_an_answer_that_has_expired_is_gone_when_the_key_is_claimed_again(keeping: Keeping) -> None:
    await keeping.claims.claim("ann", "key", ASKED, "1", 10)
    await keeping.complete("1")
    keeping.clock.now += KEPT
    assert await keeping.claims.claim("ann", "key", ASKED, "2", 10) is None
    with pytest.raises(Conflict):
        await keeping.beside.claim("ann", "key", ASKED, "3", 10)


async def test_work_that_fails_leaves_nothing_behind(keeping: Keeping) -> None:
    def fail(execute: Execute) -> None:
        execute(CLAIM, {**kept(DONE, 0), "asked": ASKED, "now": 0})
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await keeping.transactions.run(fail)
    assert await keeping.beside.claim("ann", "key", OTHER, "2", 10) is None


async def test_of_a_hundred_at_once_through_two_processes_one_gets_the_work(keeping: Keeping) -> None:
    async def attempt(number: int) -> bool:
        claims = keeping.beside if number % 2 else keeping.claims
        try:
            return await claims.claim("ann", "key", ASKED, str(number), 10) is None
        except Conflict:
            return False

    assert sum(await asyncio.gather(*(attempt(number) for number in range(100)))) == 1


DYING = """
import asyncio, sys
from rerankd.store.database import Database
from rerankd.store.idempotency import InDatabase, StoredClaims

async def work():
    await StoredClaims(InDatabase(Database(sys.argv[1]))).claim("ann", "key", b"a" * 32, "1", 10)
    print("claimed", flush=True)
    await asyncio.sleep(60)

asyncio.run(work())
"""


async def test_the_claim_of_a_process_that_was_killed_is_taken_over_when_it_expires(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'rerankd.db'}"
    with subprocess.Popen([sys.executable, "-c", DYING, url], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "claimed\n"
        process.kill()
    with pytest.raises(Conflict):
        await StoredClaims(InDatabase(Database(url))).claim("ann", "key", ASKED, "2", 10)
    clock = Clock(time() + 10 + LONGER + 1)
    assert await StoredClaims(InDatabase(Database(url)), clock).claim("ann", "key", ASKED, "2", 10) is None
