"""The log of changes: who changed what, when, from what and to what; rows are added and never changed.

Whoever changes a key or a channel writes the change with `write_in` in the transaction that makes it. So a change that
cannot be written down does not happen, and a change that fails is not in the log. A correction of the ledger, which is made
elsewhere, is written down before it. No secret may stand in `before` or `after`: give what may be shown.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from time import time
from typing import Any

from sqlalchemy import delete, insert, null, select
from sqlalchemy.ext.asyncio import AsyncConnection

from rerankd.store.database import Database
from rerankd.store.records import Change
from rerankd.store.tables import AUDIT

LONGEST_ACTOR, LONGEST_ACTION, LONGEST_TARGET = 128, 64, 256
DAY = 86_400_000
AT_ONCE = 1000
"""Rows deleted in one transaction, so that nobody waits for long behind it."""


async def write_in(
    connection: AsyncConnection,
    actor: str,
    action: str,
    target: str,
    before: Mapping[str, Any] | None = None,
    after: Mapping[str, Any] | None = None,
) -> None:
    """Adds a row within the transaction of `connection`. `action` is a noun and a verb, such as `key.create`; `before` and
    `after` are JSON, None where there is nothing. Texts that are too long for their column are cut.
    """
    values = {
        "at": int(time() * 1000),
        "actor": actor[:LONGEST_ACTOR],
        "action": action[:LONGEST_ACTION],
        "target": target[:LONGEST_TARGET],
        "before": null() if before is None else dict(before),
        "after": null() if after is None else dict(after),
    }
    await connection.execute(insert(AUDIT).values(values))


class AuditLog:
    """Raises what `Database.transaction` raises."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def write(
        self,
        actor: str,
        action: str,
        target: str,
        before: Mapping[str, Any] | None = None,
        after: Mapping[str, Any] | None = None,
    ) -> None:
        """Adds a row, durable when this returns: before a change that is not made in a transaction of this database."""
        async with self._database.transaction() as connection:
            await write_in(connection, actor, action, target, before, after)

    async def page(self, before: int | None = None, limit: int = 50) -> Sequence[Change]:
        """The newest rows, newest first; those with smaller numbers than `before` where that is given."""
        wanted = select(AUDIT).order_by(AUDIT.c.number.desc()).limit(limit)
        if before is not None:
            wanted = wanted.where(AUDIT.c.number < before)
        async with self._database.transaction(reading=True) as connection:
            found = (await connection.execute(wanted)).mappings().all()
        return [Change(**row) for row in found]

    async def forget(self, days: int) -> int:
        """Deletes all rows older than `days`, a few in a transaction; returns how many."""
        old = select(AUDIT.c.number).where(AUDIT.c.at < int(time() * 1000) - days * DAY).limit(AT_ONCE)
        total, deleted = 0, AT_ONCE
        while deleted == AT_ONCE:
            async with self._database.transaction() as connection:
                deleted = (await connection.execute(delete(AUDIT).where(AUDIT.c.number.in_(old)))).rowcount
            total += deleted
        return total
