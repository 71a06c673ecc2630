"""The ledger: a row is on this machine's disk before the answer goes out, and in the database soon after.

So nobody waits for the database, be it away, locked or slow: rows wait in the spool until it has said that they are there.
One that comes twice is counted once. A crash at any moment loses none and doubles none.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from time import time

from sqlalchemy import text

from rerankd.accounts import Entry, Spent
from rerankd.errors import RerankError, StoreUnavailable
from rerankd.store.database import Database
from rerankd.store.journal import Record
from rerankd.store.shipment import SECONDS, UNFIT, ship
from rerankd.store.spool import Batch, Spool
from rerankd.store.sums import DAY_MS

log = logging.getLogger("rerankd.store")

AT_ONCE = 500
"""Rows sent in one transaction."""
GATHERED = 0.2
"""Seconds for which rows wait for others, unless somebody wants to read them: each costs less, the more there are."""
FIRST_PAUSE, LONGEST_PAUSE = 0.1, 5.0
LAST_SHIPMENT = 5.0
"""Seconds at the end, in which what is left may still be sent."""
FORGET_AT_ONCE = 1000
KEPT_SINCE = "ledger.kept_since"
"""The fact that says from which millisecond on every row is there: sums of earlier days cannot be added up again."""
SPENT = text(
    "SELECT coalesce(sum(tokens), 0), coalesce(sum(CASE WHEN substr(day, 1, 7) = :month THEN tokens END), 0), "
    "coalesce(sum(CASE WHEN day = :day THEN tokens END), 0) FROM usage WHERE key_id = :key"
)
REMEMBERED = text(
    "INSERT INTO facts (name, number, text) VALUES (:name, :since, '') ON CONFLICT (name) DO UPDATE "
    "SET number = CASE WHEN excluded.number > facts.number THEN excluded.number ELSE facts.number END"
)
TOO_OLD = text(
    "DELETE FROM ledger WHERE number IN (SELECT number FROM ledger WHERE at < :before ORDER BY at LIMIT :most)"
)


class StoredLedger:
    """`spool` is where rows wait. Raises `BadSettings` where it cannot be used; the database need not be there."""

    def __init__(self, database: Database, spool: Path) -> None:
        self._database = database
        self._spool = Spool(spool)
        self._visible = 0
        self._marks: list[tuple[int, int]] = []
        self._more = asyncio.Event()
        self._hurry = asyncio.Event()
        self._empty = asyncio.Event()
        self._shipper: asyncio.Task[None] | None = None

    async def open(self) -> None:
        """Begins to send what the spool holds. Raises `StoreUnavailable` where the spool cannot be used."""
        await self._spool.open()
        self._shipper = asyncio.create_task(self._ship(), name="shipper")

    async def record(self, entry: Entry, *, others: bool = False) -> int:
        """The row's sequence number; it is on the disk. Raises `StoreUnavailable` where it is not."""
        sequence = await self._spool.put(entry, others=others)
        self._more.set()
        if entry.completion is not None:  # somebody may ask for it at once
            self._hurry.set()
        return sequence

    def note(self, entry: Entry) -> None:
        """The row is written soon, and nobody waits for it; what cannot be written is lost, and the log says so."""
        try:
            self._spool.put_nowait(entry)
        except StoreUnavailable as error:
            log.error("the row of a failed request is lost: %s", error.message)
        self._more.set()

    @property
    def visible(self) -> int:
        """Every row with a sequence number up to this one is in the database's sums, if it ever will be."""
        return self._visible

    @property
    def healthy(self) -> bool:
        """Whether the next row is likely to be written: the disk takes it, and the spool is not full."""
        return self._spool.healthy

    @property
    def waiting(self) -> int:
        """Rows that are not in the database yet, more or less."""
        return self._spool.rows

    async def spent(self, key_id: str) -> Spent:
        """What the key has used, with every row that was `visible` before the call. Raises `StoreUnavailable`."""
        today = datetime.now(UTC).date().isoformat()
        async with self._database.transaction(reading=True) as connection:
            found = await connection.execute(SPENT, {"month": today[:7], "day": today, "key": key_id})
            total, month, day = map(int, found.one())
        return Spent(total=total, month=month, day=day)

    async def forget(self, days: int) -> int:
        """Deletes rows older than so many whole days of UTC; returns how many. Raises `StoreUnavailable`."""
        before = (int(time() * 1000) // DAY_MS - days) * DAY_MS
        async with self._database.transaction() as connection:  # before the first of them goes
            await connection.execute(REMEMBERED, {"name": KEPT_SINCE, "since": before})
        total, deleted = 0, FORGET_AT_ONCE
        while deleted == FORGET_AT_ONCE:
            async with self._database.transaction(SECONDS) as connection:
                done = await connection.execute(TOO_OLD, {"before": before, "most": FORGET_AT_ONCE})
            deleted = done.rowcount
            total += deleted
        return total

    async def settled(self, seconds: float) -> bool:
        """Whether all that was recorded is in the database; it waits so long for it."""
        try:
            async with asyncio.timeout(seconds):
                while self._spool.rows or not self._empty.is_set():
                    self._more.set()
                    self._hurry.set()
                    self._empty.clear()
                    await self._empty.wait()
        except TimeoutError:
            return False
        return True

    async def stop(self) -> None:
        """Sends what is left, if the database is there; what cannot be sent is, after the next start."""
        if self._shipper is not None and not self._shipper.done():
            await self.settled(LAST_SHIPMENT)
            self._shipper.cancel()
            await asyncio.gather(self._shipper, return_exceptions=True)
        self._shipper = None

    def close(self) -> None:
        """After `stop`, or without it. Writes what was noted; blocks meanwhile."""
        if self._shipper is not None and not self._shipper.get_loop().is_closed():
            self._shipper.cancel()
        self._spool.close()

    async def _ship(self) -> None:
        pause = 0.0
        while True:
            self._more.clear()
            try:
                batch = await self._spool.next(AT_ONCE)
                if batch.rows:
                    await self._send(batch.rows)
                    self._spool.forget(batch.rows)
                self._mark(batch)
                pause = 0.0
            except Exception as error:  # whatever it is, it must not be the last that is sent
                if not isinstance(error, StoreUnavailable):
                    reason = error.message if isinstance(error, RerankError) else type(error).__name__
                    log.error("rows wait in the spool: %s", reason)
                pause = min(LONGEST_PAUSE, pause * 2 or FIRST_PAUSE)
                await asyncio.sleep(pause)
                continue
            if not batch.rows:
                self._hurry.clear()
                self._empty.set()
                await self._more.wait()
            if len(batch.rows) < AT_ONCE:
                await self._gathered()

    async def _gathered(self) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(GATHERED):
                await self._hurry.wait()

    def _mark(self, batch: Batch) -> None:
        """One mark is waited for at a time, and the next is set when it is reached."""
        if not self._marks:
            self._marks.append((batch.last, batch.decided))
        last, decided = self._marks[0]
        if not batch.rows or batch.rows[-1].number >= last:
            self._visible = max(self._visible, decided)
            self._marks.clear()

    async def _send(self, rows: Sequence[Record]) -> None:
        """A row that the database takes in no company is put aside, so that it keeps no other waiting."""
        try:
            await ship(self._database, [row.payload for row in rows])
        except UNFIT as error:
            if len(rows) == 1:
                await asyncio.to_thread(self._spool.reject, rows[0], type(error).__name__)
                log.error(
                    "a row of the ledger is refused by the database and put aside; `rerankd db check` tells of it"
                )
                return
            middle = len(rows) // 2
            await self._send(rows[:middle])
            await self._send(rows[middle:])
