"""Rows of the ledger into PostgreSQL, with the answers that they complete: each counts once.

As one JSON text a statement, which costs the event loop a hundredth of what thousands of parameters would.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from time import time
from typing import Any

import msgspec
from sqlalchemy import Column, Dialect, Table, text
from sqlalchemy.dialects import postgresql
from sqlalchemy.ext.asyncio import AsyncConnection

from rerankd.accounts import Entry
from rerankd.store.idempotency import COMPLETE, kept
from rerankd.store.ledger import COLUMNS
from rerankd.store.tables import LEDGER

DIALECT: Dialect = postgresql.dialect()  # type: ignore[no-untyped-call]


def _records(table: Table, columns: Collection[str]) -> str:
    """The rows of the JSON text, as PostgreSQL reads them."""
    types = ", ".join(f"{name} {_type(table.c[name])}" for name in columns)
    return f"json_to_recordset(CAST(:rows AS json)) AS given ({types})"


def _type(column: Column[Any]) -> str:
    return "text" if str(column.type).startswith("VARCHAR") else column.type.compile(DIALECT)


ADD = text(
    f"INSERT INTO ledger ({', '.join(COLUMNS)}) SELECT {', '.join(COLUMNS)} "  # noqa: S608  (our names)
    f"FROM {_records(LEDGER, COLUMNS)} ON CONFLICT (entry) DO NOTHING RETURNING entry"
)


async def ship(connection: AsyncConnection, entries: Sequence[Entry]) -> None:
    """Within a transaction: each row that is not there yet, and what it brings about; its sums are the database's doing."""
    # In one order everywhere, so that no two processes wait for each other's sums.
    ordered = sorted(entries, key=lambda entry: (entry.at, entry.key_id, entry.model, entry.channel))
    rows = [{name: getattr(entry, name) for name in COLUMNS} for entry in ordered]
    new = set((await connection.execute(ADD, {"rows": _json(rows)})).scalars())
    fresh = {
        entry.entry: entry for entry in entries if entry.entry in new
    }  # the same row twice in one batch is one row
    done = [entry.completion for entry in fresh.values() if entry.completion is not None]
    if done:
        now = time()
        await connection.execute(text(COMPLETE), [dict(kept(completion, now)) for completion in done])


def _json(rows: Sequence[object]) -> str:
    return msgspec.json.encode(rows).decode()
