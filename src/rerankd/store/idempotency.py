"""Who works for which Idempotency-Key, and the answers, in the database: of all processes that use it, one gets the work.

A claim lasts until its request's deadline and a minute, so that one whose process died is free again by itself; clocks of
machines that share a database may differ by that minute. An answer is kept for a day.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Mapping, Sequence
from math import ceil
from time import time
from typing import Any, Protocol, TypeVar

from sqlalchemy import Connection, text

from rerankd.accounts import Completion
from rerankd.errors import Conflict, IdempotencyMismatch
from rerankd.store.database import Database

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


class Writer(Protocol):
    """A thread that owns a SQLite file: a GroupCommit, or the ledger that has one. It rolls back where the work raises."""

    async def run(self, work: Callable[[sqlite3.Connection], Outcome]) -> Outcome: ...


class InDatabase:
    """Transactions of their own: for PostgreSQL. For SQLite there is `InLedger`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def run(self, work: Callable[[Execute], Outcome]) -> Outcome:
        def at_once(connection: Connection) -> Outcome:
            return work(lambda statement, values: connection.execute(text(statement), dict(values)).all())

        async with self._database.transaction() as connection:
            return await connection.run_sync(at_once)


class InLedger:
    """Between two commits of the thread that writes the ledger: SQLite has no queue for its lock, and another connection may
    wait for a second while the ledger is busy.
    """

    def __init__(self, writer: Writer) -> None:
        self._writer = writer

    async def run(self, work: Callable[[Execute], Outcome]) -> Outcome:
        def at_once(connection: sqlite3.Connection) -> Outcome:
            connection.execute("BEGIN IMMEDIATE")
            outcome = work(lambda statement, values: connection.execute(statement, values).fetchall())
            connection.execute("COMMIT")
            return outcome

        return await self._writer.run(at_once)


class StoredClaims:
    def __init__(self, transactions: Transactions, clock: Callable[[], float] = time) -> None:
        """`clock` tells seconds since 1970."""
        self._transactions = transactions
        self._clock = clock

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
        found = await self._transactions.run(
            lambda execute: None if execute(CLAIM, values) else execute(FIND, values)[0],
        )
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
