"""/admin/api/usage: what was used, by day, key, model and channel; for programs as JSON, for spreadsheets as CSV."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, date, datetime
from typing import Annotated, Any, Literal, get_args

import msgspec
from msgspec import Meta
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from rerankd.app import Application
from rerankd.errors import BadRequest
from rerankd.server.admin_reading import Cursor, Text, answered, cursor_of, kept, read_query, values_of
from rerankd.server.admin_route import AdminRoute
from rerankd.server.csv_rows import CSV, Cell, csv_rows
from rerankd.store.records import Dimension, UsageQuery, UsageSum

BY_DEFAULT = 30
"""Days, today among them."""
LONGEST = 3660
LARGEST_PAGE = 10_000
MOST_ROWS = 1_000_000
"""Of one CSV file: as many as a spreadsheet takes."""
DIMENSIONS: tuple[Dimension, ...] = get_args(Dimension)
SUMS = ("requests", "failed", "documents", "tokens", "cached_tokens", "estimated_tokens", "search_units", "cost")

Day = Annotated[str, Meta(pattern=r"^\d{4}-\d{2}-\d{2}\Z", description="A day of UTC, such as 2026-11-21, included.")]

EXPECTED = {
    "from": "a day, such as 2026-11-01",
    "to": "a day that is not before `from`, such as 2026-11-21",
    "by": f"some of {', '.join(DIMENSIONS)}, each once, with commas between them",
    "key": "the id of a key",
    "model": "the name of a model",
    "channel": "the name of a channel",
    "format": "json or csv",
    "limit": f"a whole number from 1 to {LARGEST_PAGE}",
    "after": "the `next` of an earlier answer",
}


class UsageParameters(msgspec.Struct, kw_only=True, rename={"since": "from", "until": "to"}):
    since: Day | None = None
    until: Day | None = None
    by: Annotated[str, Meta(max_length=64, description="Of day, key, model and channel those that each get rows.")] = (
        "day"
    )
    key: Annotated[Text, Meta(description="The id of a key; no other's usage.")] | None = None
    model: Text | None = None
    channel: Text | None = None
    format: Literal["json", "csv"] | None = None
    limit: Annotated[int, Meta(ge=1, le=LARGEST_PAGE, description="The most rows of a page of JSON.")] = 1000
    after: Cursor | None = None


class ShownSum(msgspec.Struct, kw_only=True, omit_defaults=True):
    """Of `day`, `key`, `model` and `channel` there are those that were asked for. `key_name` is null where the key is gone.

    `failed` of the `requests` were not answered with 200; `estimated_tokens` of the `tokens` nobody counted exactly; `cost`
    is in millionths of the currency's unit.
    """

    day: str | msgspec.UnsetType = msgspec.UNSET
    key: str | msgspec.UnsetType = msgspec.UNSET
    key_name: str | msgspec.UnsetType | None = msgspec.UNSET
    model: str | msgspec.UnsetType = msgspec.UNSET
    channel: str | msgspec.UnsetType = msgspec.UNSET
    requests: int
    failed: int
    documents: int
    tokens: int
    cached_tokens: int
    estimated_tokens: int
    search_units: int
    cost: int


class ShownUsage(msgspec.Struct, rename={"since": "from", "until": "to"}):
    """`next` is null where there is nothing more."""

    since: str
    until: str
    by: list[Dimension]
    currency: str
    rows: list[ShownSum]
    next: str | None


class UsageRoutes:
    def __init__(self, application: Application) -> None:
        self._application = application

    def routes(self) -> Sequence[AdminRoute]:
        return (
            AdminRoute(
                method="GET",
                path="/usage",
                answer=self.usage,
                summary="What was used, by day, key, model and channel",
                asks=UsageParameters,
                gives=ShownUsage,
                otherwise={"text/csv": "day,requests,failed\r\n2026-11-21,3,0\r\n"},
            ),
        )

    async def usage(self, request: Request) -> Response:
        """Sums of the ledger, which stay when its rows have aged out. `format=csv`, or an `Accept` of text/csv, gives CSV,
        in which a text that a spreadsheet would take for a formula begins with an apostrophe.
        """
        asked = read_query(request, UsageParameters, EXPECTED)
        query = query_of(asked)
        if asked.format == "csv" or (asked.format is None and "text/csv" in request.headers.get("accept", "")):
            return await self._csv(query)
        sums = await self._sums(query)
        names = await self._names(query)
        shown = [_shown(row, query.by, names) for row in sums]
        further = cursor_of(_place(sums[-1], query.by)) if query.by and len(sums) == query.limit else None
        return answered(ShownUsage(query.since, query.until, list(query.by), self._currency, shown, further))

    async def _csv(self, query: UsageQuery) -> Response:
        names = await self._names(query)
        first = await self._sums(replace(query, limit=LARGEST_PAGE))  # before the status: it may fail
        headers = {"content-disposition": f'attachment; filename="usage-{query.since}-{query.until}.csv"'}
        return StreamingResponse(self._lines(query, first, names), media_type=CSV, headers=headers)

    async def _lines(
        self, query: UsageQuery, page: Sequence[UsageSum], names: Mapping[str, str]
    ) -> AsyncIterator[bytes]:
        """A page of rows is read, and then written: nobody waits for a slow reader with a transaction open."""
        yield csv_rows([[*_titles(query.by), "currency"]])
        written = 0
        while page:
            yield csv_rows([*_cells(row, query.by, names), self._currency] for row in page)
            written += len(page)
            if not query.by or len(page) < LARGEST_PAGE or written >= MOST_ROWS:
                return
            page = await self._sums(replace(query, limit=LARGEST_PAGE, after=_place(page[-1], query.by)))

    async def _sums(self, query: UsageQuery) -> Sequence[UsageSum]:
        return await kept(self._application.books.usage, "ledger").sums(query)

    async def _names(self, query: UsageQuery) -> Mapping[str, str]:
        """Of the keys, by their ids; where they are wanted."""
        keys = self._application.books.keys
        return {} if keys is None or "key" not in query.by else {key.id: key.name for key in await keys.list()}

    @property
    def _currency(self) -> str:
        return self._application.settings.ledger.currency


def query_of(asked: UsageParameters) -> UsageQuery:
    """Raises `BadRequest`, naming the parameter."""
    until = _day(asked.until, "to") or datetime.now(UTC).date()
    since = _day(asked.since, "from") or date.fromordinal(max(1, until.toordinal() - BY_DEFAULT + 1))
    if not 0 <= (until - since).days <= LONGEST:
        raise BadRequest(f"`to` must be {EXPECTED['to']}, and at most {LONGEST} days after it.", param="to")
    by = _dimensions(asked.by)
    return UsageQuery(
        since=since.isoformat(),
        until=until.isoformat(),
        by=by,
        key=asked.key,
        model=asked.model,
        channel=asked.channel,
        limit=asked.limit,
        after=None if asked.after is None else _after(asked.after, len(by)),
    )


def _day(text: str | None, name: str) -> date | None:
    try:
        return None if text is None else date.fromisoformat(text)
    except ValueError:
        raise BadRequest(f"`{name}` must be {EXPECTED[name]}.", param=name) from None


def _dimensions(text: str) -> tuple[Dimension, ...]:
    names = text.split(",") if text else []
    if len(set(names)) < len(names) or not set(names) <= set(DIMENSIONS):
        raise BadRequest(f"`by` must be {EXPECTED['by']}.", param="by")
    return tuple(name for name in DIMENSIONS if name in names)


def _after(cursor: str, length: int) -> tuple[str, ...]:
    values = values_of(cursor, tuple[Text, ...], "after")
    if not values or len(values) != length:
        raise BadRequest("`after` must be what an answer to the same question gave.", param="after")
    return values


def _place(row: UsageSum, by: Sequence[Dimension]) -> tuple[str, ...]:
    return tuple(getattr(row, name) for name in by)


def _shown(row: UsageSum, by: Sequence[Dimension], names: Mapping[str, str]) -> ShownSum:
    of: dict[str, Any] = {name: getattr(row, name) for name in (*by, *SUMS)}
    if "key" in by:
        of["key_name"] = names.get(row.key or "")
    return ShownSum(**of)


def _titles(by: Sequence[Dimension]) -> list[str]:
    return [*by, *(["key_name"] if "key" in by else []), *SUMS]


def _cells(row: UsageSum, by: Sequence[Dimension], names: Mapping[str, str]) -> list[Cell]:
    named = [names.get(row.key or "", "")] if "key" in by else []
    return [*_place(row, by), *named, *(getattr(row, name) for name in SUMS)]
