"""Whether the ledger is true to itself: its rows are added up anew, and all that can be compared with them is.

It may run beside the server: SQLite's file is only read, at one moment of it, which holds up nobody; and in PostgreSQL each
question is one statement. Days whose rows have begun to age out cannot be added up again, and are left alone.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Collection, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from rerankd.errors import BadSettings
from rerankd.store.audit import write_in
from rerankd.store.database import Database
from rerankd.store.keys import PEPPER
from rerankd.store.ledger import KEPT_SINCE
from rerankd.store.pepper import Pepper, pepper_id
from rerankd.store.spool import Waiting, waiting
from rerankd.store.sums import DAY_MS, SumKey, Sums, day_of

SECONDS = 3600.0
"""For a question over all rows."""
MOST_SHOWN = 1000
DAYS = {
    "sqlite": "strftime('%Y-%m-%d', at / 1000, 'unixepoch')",
    "postgres": "to_char(to_timestamp(at / 1000) AT TIME ZONE 'UTC', 'YYYY-MM-DD')",
}
ADDED_UP = {
    "requests": "sum(CASE WHEN kind = 'request' THEN 1 ELSE 0 END)",
    "failed": "sum(CASE WHEN kind = 'request' AND status <> 200 THEN 1 ELSE 0 END)",
    "documents": "sum(documents)",
    "tokens": "sum(tokens)",
    "cached_tokens": "sum(cached_tokens)",
    "estimated_tokens": "sum(CASE WHEN estimated THEN tokens ELSE 0 END)",
    "search_units": "sum(search_units)",
    "cost": "sum(cost)",
}
"""What the trigger on `ledger` adds up for each row, over many of them."""
KEY = ", ".join(SumKey._fields)
COUNTED = "SELECT count(*) FROM ledger"
TWICE = f"SELECT entry, count(*) FROM ledger GROUP BY entry HAVING count(*) > 1 LIMIT {MOST_SHOWN}"  # noqa: S608
FACT = "SELECT number, text FROM facts WHERE name = :name"
LIVING_KEYS = "SELECT count(*) FROM keys WHERE revoked IS NULL"


@dataclass(frozen=True, slots=True)
class Difference:
    """One sum of one row of `usage`: what it is, and what the rows come to."""

    day: str
    key_id: str
    model: str
    channel: str
    what: str
    kept: int
    rows: int


@dataclass(frozen=True, slots=True)
class Findings:
    """`problems` are sentences; `twice` are entries that are there more than once. Rows that wait are no fault."""

    rows: int
    differences: Sequence[Difference] = ()
    twice: Sequence[str] = ()
    spools: Sequence[Waiting] = ()
    problems: Sequence[str] = ()

    @property
    def waiting(self) -> int:
        return sum(spool.rows for spool in self.spools)

    @property
    def rejected(self) -> int:
        return sum(spool.rejected for spool in self.spools)

    @property
    def damaged(self) -> int:
        return sum(spool.damaged for spool in self.spools)

    @property
    def well(self) -> bool:
        return not (self.differences or self.twice or self.problems or self.rejected or self.damaged)


async def check(database: Database, spool: Path, pepper: str | None) -> Findings:
    """`spool` and `pepper` are the settings'. Raises what `Database.transaction` raises."""
    async with database.transaction():  # brought up to date, where it was not
        pass
    broken = await _broken(database)
    if broken:  # no answer of it could be believed
        return Findings(rows=0, problems=broken)
    since = next((number for number, _ in await _asked(database, FACT, name=KEPT_SINCE)), 0)
    ((rows,),) = await _asked(database, COUNTED)
    compared = await _asked(database, _compared(database), since=since, day=day_of(since))
    return Findings(
        rows=rows,
        differences=[one for row in compared for one in _differences(row)][:MOST_SHOWN],
        twice=[entry for entry, _ in await _asked(database, TWICE)],
        spools=await asyncio.to_thread(waiting, spool),
        problems=await _pepper(database, pepper),
    )


async def repair(database: Database, days: Collection[str], actor: str) -> None:
    """Sets the sums of `days`, of which every row must be there, to what the rows come to.

    Raises what `Database.transaction` raises.
    """
    for day in sorted(days):
        async with database.transaction(SECONDS) as connection:
            await _repaired(database, connection, day, actor)


async def _repaired(database: Database, connection: AsyncConnection, day: str, actor: str) -> None:
    if database.is_postgres:  # who has added a row adds to the sums next, and waits there until this is done
        await connection.execute(text("LOCK TABLE usage IN SHARE ROW EXCLUSIVE MODE"))
    await connection.execute(text("DELETE FROM usage WHERE day = :day"), {"day": day})
    columns = ", ".join((*SumKey._fields, *Sums._fields))
    start = int(datetime.fromisoformat(f"{day}T00:00:00+00:00").timestamp()) * 1000
    await connection.execute(
        text(f"INSERT INTO usage ({columns}) {_sums_of_rows(database)} AND at < :until GROUP BY 1, 2, 3, 4"),
        {"since": start, "until": start + DAY_MS},
    )
    await write_in(connection, actor, "usage.repair", day)


def _sums_of_rows(database: Database) -> str:
    day = DAYS["postgres" if database.is_postgres else "sqlite"]
    sums = ", ".join(f"{ADDED_UP[name]} AS {name}" for name in Sums._fields)
    return f"SELECT {day} AS day, key_id, model, channel, {sums} FROM ledger WHERE at >= :since"  # noqa: S608


def _compared(database: Database) -> str:
    """One statement, so that both sides are of one moment; where one side has no row, the other is compared with zeros."""
    kept = ", ".join(f"sum(kept_{name})" for name in Sums._fields)
    rows = ", ".join(f"sum(rows_{name})" for name in Sums._fields)
    differ = " OR ".join(f"sum(kept_{name}) <> sum(rows_{name})" for name in Sums._fields)
    of_kept = ", ".join(
        [*(f"{name} AS kept_{name}" for name in Sums._fields), *(f"0 AS rows_{name}" for name in Sums._fields)]
    )
    of_rows = ", ".join([*("0" for _ in Sums._fields), *Sums._fields])
    return (
        f"SELECT {KEY}, {kept}, {rows} FROM ("  # noqa: S608
        f"SELECT {KEY}, {of_kept} FROM usage WHERE day >= :day UNION ALL "
        f"SELECT {KEY}, {of_rows} FROM ({_sums_of_rows(database)} GROUP BY 1, 2, 3, 4) AS added"
        f") AS both_sides GROUP BY {KEY} HAVING {differ} ORDER BY {KEY} LIMIT {MOST_SHOWN}"
    )


def _differences(row: Sequence[Any]) -> list[Difference]:
    day, key_id, model, channel, *numbers = row
    kept, rows = numbers[: len(Sums._fields)], numbers[len(Sums._fields) :]
    return [
        Difference(day, key_id, model, channel, name, int(here), int(there))
        for name, here, there in zip(Sums._fields, kept, rows, strict=True)
        if here != there
    ]


async def _broken(database: Database) -> list[str]:
    if database.is_postgres:
        return []
    try:
        said = [str(one) for (one,) in await _asked(database, "PRAGMA integrity_check(10)")]
    except BadSettings as error:
        return [error.message]
    return [] if said == ["ok"] else [f"SQLite says of the file: {one}" for one in said]


async def _pepper(database: Database, given: str | None) -> list[str]:
    ((keys,),) = await _asked(database, LIVING_KEYS)
    pepper = Pepper(given, database.file)
    bound = next((known for _, known in await _asked(database, FACT, name=PEPPER)), "")
    if not keys or not bound:
        return []
    try:
        found = pepper.read()
    except BadSettings as error:
        return [error.message]
    if found is None:
        return [f"There is no pepper in {pepper.file}, so no server that starts here knows any of the {keys} keys."]
    if pepper_id(found) != bound:
        return [f"The pepper in {pepper.origin} is not the one that the {keys} keys were made with."]
    return []


async def _asked(database: Database, question: str, **values: object) -> list[tuple[Any, ...]]:
    if database.file is not None:
        return await asyncio.to_thread(_read, database.file, question, values)
    async with database.transaction(SECONDS) as connection:
        return [tuple(row) for row in await connection.execute(text(question), values)]


def _read(file: Path, question: str, values: dict[str, object]) -> list[tuple[Any, ...]]:
    """Without a lock that a writer would meet. Raises `BadSettings`."""
    try:
        with closing(sqlite3.connect(f"{file.absolute().as_uri()}?mode=ro", uri=True)) as connection:
            return connection.execute(question, values).fetchall()
    except sqlite3.Error as error:
        raise BadSettings(f"The database {file} (server.database) cannot be read: {error}.") from None
