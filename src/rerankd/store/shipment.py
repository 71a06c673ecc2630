"""Rows of the ledger into the database, with the answers that they complete: all in one transaction, and each counts once.

Into PostgreSQL they go as one JSON text, which costs the event loop a hundredth of what thousands of parameters would. Into
SQLite they go in a thread, some at a time, so that the event loop has its turns in between.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Collection, Iterable, Sequence
from contextlib import closing
from itertools import chain, islice
from operator import attrgetter
from pathlib import Path
from time import time
from typing import Any

import msgspec
from sqlalchemy import Column, Dialect, Table, text
from sqlalchemy.dialects import postgresql
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection

from rerankd.accounts import Completion, Entry
from rerankd.store.database import Database
from rerankd.store.durable_file import open_durable
from rerankd.store.idempotency import COMPLETE, kept
from rerankd.store.postgres import UnfitValue
from rerankd.store.tables import LEDGER

DIALECT: Dialect = postgresql.dialect()  # type: ignore[no-untyped-call]
SECONDS = 20.0
"""For one transaction: whoever waits for it is not a request."""
TOGETHER = 64
"""Rows of one statement in SQLite; the statement is the same for all but the last of them."""
COLUMNS = tuple(name for name in Entry.__struct_fields__ if name != "completion")
"""Of `ledger`, as an Entry has them; its completion is the last field, and not of this table."""
NAMES = ", ".join(COLUMNS)
ROW = f"({', '.join('?' * len(COLUMNS))})"
NEW = "ON CONFLICT (entry) DO NOTHING"
UNFIT = (UnfitValue, IntegrityError, sqlite3.IntegrityError, msgspec.DecodeError, OverflowError, UnicodeError)
"""What is raised where the database would refuse a row at any time."""

encode = msgspec.msgpack.Encoder().encode
decode = msgspec.msgpack.Decoder(Entry).decode
values_of = attrgetter(*COLUMNS)


def _records(table: Table, columns: Collection[str]) -> str:
    """The rows of the JSON text, as PostgreSQL reads them."""
    types = ", ".join(f"{name} {_type(table.c[name])}" for name in columns)
    return f"json_to_recordset(CAST(:rows AS json)) AS given ({types})"


def _type(column: Column[Any]) -> str:
    return "text" if str(column.type).startswith("VARCHAR") else column.type.compile(DIALECT)


ADD = text(
    f"INSERT INTO ledger ({NAMES}) SELECT {NAMES} FROM {_records(LEDGER, COLUMNS)} {NEW} RETURNING entry"  # noqa: S608
)


async def ship(database: Database, rows: Sequence[bytes]) -> None:
    """Each that is not there yet, as `encode` made it, and what it brings about; its sums are the database's doing.

    Raises one of `UNFIT`, and what `Database.transaction` raises.
    """
    if database.file is None:
        entries = await asyncio.to_thread(lambda: list(map(decode, rows)))
        async with database.transaction(SECONDS, insist=True) as connection:
            await _into_postgres(connection, entries)
        return
    await database.ready()
    try:
        await asyncio.to_thread(_into_sqlite, database.file, rows)
    except sqlite3.IntegrityError:
        raise
    except (sqlite3.Error, OSError) as error:
        raise database.failure(error) from None


async def _into_postgres(connection: AsyncConnection, entries: Sequence[Entry]) -> None:
    # In one order everywhere, so that no two processes wait for each other's sums.
    ordered = sorted(entries, key=lambda entry: (entry.at, entry.key_id, entry.model, entry.channel))
    rows = [dict(zip(COLUMNS, values_of(entry), strict=True)) for entry in ordered]
    new = set((await connection.execute(ADD, {"rows": msgspec.json.encode(rows).decode()})).scalars())
    done = _completions(entries, new)
    if done:
        now = time()
        await connection.execute(text(COMPLETE), [dict(kept(completion, now)) for completion in done])


def _into_sqlite(file: Path, rows: Sequence[bytes]) -> None:
    with closing(open_durable(file)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        left = map(decode, rows)
        while some := list(islice(left, TOGETHER)):
            _add(connection, some)
        connection.execute("COMMIT")


def _add(connection: sqlite3.Connection, entries: Sequence[Entry]) -> None:
    statement = f"INSERT INTO ledger ({NAMES}) VALUES {', '.join([ROW] * len(entries))} {NEW}"  # noqa: S608  (our names)
    values = list(chain.from_iterable(map(values_of, entries)))
    if all(entry.completion is None for entry in entries):
        connection.execute(statement, values)
        return
    new = {name for (name,) in connection.execute(f"{statement} RETURNING entry", values).fetchall()}
    now = time()
    for completion in _completions(entries, new):
        connection.execute(COMPLETE, kept(completion, now))


def _completions(entries: Iterable[Entry], new: Collection[str]) -> list[Completion]:
    """Of new rows; the same row twice is one row."""
    fresh = {entry.entry: entry.completion for entry in entries if entry.entry in new}
    return [completion for completion in fresh.values() if completion is not None]
