"""Who works for which Idempotency-Key, and the answers, in the database: of all processes that use it, one gets the work.

A claim lasts until its request's deadline and a minute, so that one whose process died is free again by itself; clocks of
machines that share a database may differ by that minute. An answer is kept for a day.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from math import ceil
from time import time
from typing import Any, Protocol, TypeVar

from sqlalchemy import Connection, text

from rerankd.accounts import Completion
from rerankd.errors import Conflict, IdempotencyMismatch
from rerankd.store.database import Database
from rerankd.store.settling import A_MOMENT, Settling

Outcome = TypeVar("Outcome")

KEPT = 86400
LONGER = 60
"""Seconds after its deadline in which a request has surely ended, its row of the ledger included."""
RETRY = 1.0
AT_ONCE = 250
"""Rows deleted in one transaction, so that no request waits for long behind it."""
HEADER = "idempotency-key"

COMPLETE = """
UPDATE idempotency SET response = :response, expires = :expires
WHERE key_id = :key_id AND idempotency_key = :idempotency_key AND holder = :holder AND response IS NULL
"""
"""Keeps an answer, in SQLite and in PostgreSQL, with the values of `kept`. Where the claim was given up or taken over since,
nothing is changed."""
CLAIM = """
INSERT INTO idempotency (key_id, idempotency_key, asked, holder, response, expires)
VALUES (:key_id, :idempotency_key, :asked, :holder, NULL, :expires)
ON CONFLICT (key_id, idempotency_key) DO UPDATE
SET asked = excluded.asked, holder = excluded.holder, response = NULL, expires = excluded.expires
WHERE idempotency.expires <= :now
RETURNING holder
"""
FIND = "SELECT asked, response FROM idempotency WHERE key_id = :key_id AND idempotency_key = :idempotency_key"
RELEASE = """
DELETE FROM idempotency
WHERE key_id = :key_id AND idempotency_key = :idempotency_key AND holder = :holder AND response IS NULL
RETURNING holder
"""
PRUNE = """
DELETE FROM idempotency WHERE (key_id, idempotency_key) IN
(SELECT key_id, idempotency_key FROM idempotency WHERE expires <= :now LIMIT :most)
RETURNING holder
"""

Values = Mapping[str, Any]
Execute = Callable[[str, Values], Sequence[Sequence[Any]]]
"""Does one statement, and returns its rows."""


class Transactions(Protocol):
    async def run(self, work: Callable[[Execute], Outcome]) -> Outcome:
        """What `work` returns; all that it did, or nothing. Raises `StoreUnavailable` where the database is away."""
        ...


class InDatabase:
    """Each in a transaction of the database; to be used in one event loop.

    Those into SQLite come one after another: its lock has no queue, and of many who want it some would wait for very long.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._turn = nullcontext() if database.is_postgres else asyncio.Lock()

    async def run(self, work: Callable[[Execute], Outcome]) -> Outcome:
        def at_once(connection: Connection) -> Outcome:
            return work(lambda statement, values: connection.execute(text(statement), dict(values)).all())

        async with self._turn, self._database.transaction() as connection:
            return await connection.run_sync(at_once)


class StoredClaims:
    def __init__(
        self, transactions: Transactions, clock: Callable[[], float] = time, ledger: Settling | None = None
    ) -> None:
        """`clock` tells seconds since 1970; answers that `ledger` has on their way are waited for, for a moment."""
        self._transactions = transactions
        self._clock = clock
        self._ledger = ledger

    async def claim(self, key_id: str, idempotency_key: str, asked: bytes, holder: str, seconds: float) -> bytes | None:
        """The response that is kept, or None: then the work is the holder's until `seconds` and a minute have passed.

        Raises `Conflict` with `retry_after` while it is another's, `IdempotencyMismatch` where something else was asked for
        under the key, and what `Transactions.run` raises.
        """
        now = self._clock()
        values = {
            **_which(key_id, idempotency_key, holder),
            "asked": asked,
            "expires": ceil(now + seconds) + LONGER,
            "now": int(now),
        }
        found = await self._claimed(values)
        if found is not None and found[1] is None and self._ledger is not None and await self._ledger.settled(A_MOMENT):
            found = await self._claimed(values)
        if found is None:
            return None
        first, response = found
        if first != asked:
            raise IdempotencyMismatch(
                "This Idempotency-Key was used for another request; a request that is changed needs a key of its own.",
                param=HEADER,
            )
        if response is None:
            raise Conflict(
                "A request with this Idempotency-Key is being worked on; its answer will be kept for the next try.",
                param=HEADER,
                retry_after=RETRY,
            )
        return bytes(response)

    async def _claimed(self, values: Values) -> Sequence[Any] | None:
        """None where it is the holder's now, else what was asked for by another, and the answer where there is one."""
        return await self._transactions.run(
            lambda execute: None if execute(CLAIM, values) else execute(FIND, values)[0],
        )

    async def release(self, key_id: str, idempotency_key: str, holder: str) -> None:
        """The key is free again, unless it was not the holder's or an answer is kept. Raises as `Transactions.run` does."""
        values = _which(key_id, idempotency_key, holder)
        await self._transactions.run(lambda execute: execute(RELEASE, values))

    async def prune(self) -> int:
        """Forgets what has expired, and says how much that was. Raises as `Transactions.run` does."""
        values = {"now": int(self._clock()), "most": AT_ONCE}
        total = 0
        while some := len(await self._transactions.run(lambda execute: execute(PRUNE, values))):
            total += some
        return total


def kept(completion: Completion, now: float) -> Values:
    """What `COMPLETE` takes; `now` is in seconds since 1970."""
    return {
        **_which(completion.key_id, completion.idempotency_key, completion.holder),
        "response": completion.response,
        "expires": int(now) + KEPT,
    }


def _which(key_id: str, idempotency_key: str, holder: str) -> dict[str, Any]:
    return {"key_id": key_id, "idempotency_key": idempotency_key, "holder": holder}
