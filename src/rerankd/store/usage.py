"""What was used, as the ledger's sums and rows tell it; every question is bounded, whatever the size of the tables.

Sums come out of `usage` alone. Rows come newest first, by the time of the request and then by their number: the indexes on
(at), (key_id, at) and (request_id) lead to them. What no index has, which is a model, a channel or a status, is looked for
among at most `SCAN` rows, and the page says where to go on.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

from sqlalchemy import BigInteger, Select, cast, func, select, tuple_
from sqlalchemy.ext.asyncio import AsyncConnection

from rerankd.accounts import Entry
from rerankd.store.database import Database
from rerankd.store.records import LedgerPage, LedgerQuery, UsageQuery, UsageSum
from rerankd.store.settling import A_MOMENT, Settling
from rerankd.store.tables import LEDGER, USAGE

SCAN = 20_000
"""Rows that are looked at for one page where a filter has no index."""
SUMS = ("requests", "failed", "documents", "tokens", "cached_tokens", "estimated_tokens", "search_units", "cost")
DIMENSIONS = {"day": USAGE.c.day, "key": USAGE.c.key_id, "model": USAGE.c.model, "channel": USAGE.c.channel}
COLUMNS = [LEDGER.c[name] for name in ("number", *Entry.__struct_fields__) if name in LEDGER.c]


class UsageBook:
    """Reads and never writes. Raises what `Database.transaction` raises."""

    def __init__(self, database: Database, ledger: Settling | None = None) -> None:
        """What `ledger` has recorded before a question is in the answer, if that takes no longer than a moment."""
        self._database = database
        self._ledger = ledger

    @asynccontextmanager
    async def _reading(self) -> AsyncIterator[AsyncConnection]:
        if self._ledger is not None:
            await self._ledger.settled(A_MOMENT)
        async with self._database.transaction(reading=True) as connection:
            yield connection

    async def sums(self, query: UsageQuery) -> Sequence[UsageSum]:
        """In the order of `query.by`; one row of the whole where that is empty."""
        async with self._reading() as connection:
            found = (await connection.execute(sums_of(query))).mappings().all()
        return [UsageSum(**{**dict.fromkeys(DIMENSIONS), **row}) for row in found]

    async def rows(self, query: LedgerQuery) -> LedgerPage:
        """A page of the ledger, newest first."""
        async with self._reading() as connection:
            found = (await connection.execute(rows_of(query))).mappings().all()
            further = None
            if len(found) == query.limit:
                further = (found[-1]["at"], found[-1]["number"])
            elif _unindexed(query):
                end = (await connection.execute(end_of_scan(query))).first()
                further = None if end is None else (end.at, end.number)
        return LedgerPage([_numbered(dict(row)) for row in found], further)

    async def row(self, entry: str) -> Entry | None:
        """The row of that name, or None."""
        async with self._reading() as connection:
            found = (await connection.execute(select(*COLUMNS).where(LEDGER.c.entry == entry))).mappings().first()
        return None if found is None else _numbered(dict(found))[1]


def sums_of(query: UsageQuery) -> Select[Any]:
    by = [DIMENSIONS[name] for name in query.by]
    named = [column.label(name) for name, column in zip(query.by, by, strict=True)]
    totals = [cast(func.coalesce(func.sum(USAGE.c[name]), 0), BigInteger).label(name) for name in SUMS]
    wanted = select(*named, *totals).where(USAGE.c.day.between(query.since, query.until))
    for name in ("key", "model", "channel"):
        value = getattr(query, name)
        if value is not None:
            wanted = wanted.where(DIMENSIONS[name] == value)
    if query.after is not None:
        wanted = wanted.where(tuple_(*by) > query.after)
    return wanted.group_by(*by).order_by(*by).limit(query.limit)


def rows_of(query: LedgerQuery) -> Select[Any]:
    if not _unindexed(query):
        return _in_order(query).with_only_columns(*COLUMNS).limit(query.limit)
    seen = _in_order(query).with_only_columns(*COLUMNS).limit(SCAN).subquery("seen")
    wanted = select(seen).where(*(seen.c[name] == value for name, value in _unindexed(query).items()))
    return wanted.order_by(seen.c.at.desc(), seen.c.number.desc()).limit(query.limit)


def end_of_scan(query: LedgerQuery) -> Select[Any]:
    """The last of the rows that were looked at, where there may be more behind it."""
    return _in_order(query).offset(SCAN - 1).limit(1)


def _in_order(query: LedgerQuery) -> Select[Any]:
    wanted: Select[Any] = select(LEDGER.c.at, LEDGER.c.number)
    if query.request_id is not None:
        wanted = wanted.where(LEDGER.c.request_id == query.request_id)
    elif query.key is not None:
        wanted = wanted.where(LEDGER.c.key_id == query.key)
    if query.since is not None:
        wanted = wanted.where(LEDGER.c.at >= query.since)
    if query.until is not None:
        wanted = wanted.where(LEDGER.c.at < query.until)
    if query.before is not None:
        wanted = wanted.where(tuple_(LEDGER.c.at, LEDGER.c.number) < query.before)
    return wanted.order_by(LEDGER.c.at.desc(), LEDGER.c.number.desc())


def _unindexed(query: LedgerQuery) -> dict[str, Any]:
    """The filters that are tried on each row, by column."""
    filters: dict[str, Any] = {"model": query.model, "channel": query.channel, "status": query.status}
    if query.request_id is not None:
        filters["key_id"] = query.key  # a request's rows are few, a key's may be millions
    return {name: value for name, value in filters.items() if value is not None}


def _numbered(row: dict[str, Any]) -> tuple[int, Entry]:
    return row.pop("number"), Entry(**row)
