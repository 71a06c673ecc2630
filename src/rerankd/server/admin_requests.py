"""/admin/api/requests: the ledger's rows, newest first, and corrections, which are rows of their own: none ever changes."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from time import time
from typing import Annotated, Literal
from uuid import NAMESPACE_OID, uuid5

import msgspec
from msgspec import Meta
from starlette.requests import Request
from starlette.responses import Response

from rerankd.accounts import Entry
from rerankd.app import Application
from rerankd.errors import BadRequest, Conflict, IdempotencyMismatch, NotFound
from rerankd.policies.idempotent import HEADER, REPLAYED, idempotency_key_of
from rerankd.policies.uuid7 import uuid7
from rerankd.server.admin_reading import (
    Cursor,
    Text,
    actor_of,
    answered,
    cursor_of,
    kept,
    part_of_path,
    read,
    read_query,
    values_of,
)
from rerankd.server.admin_route import AdminRoute
from rerankd.store.records import LedgerQuery

MOST = 10**15
LONGEST_ENTRY = 32
A_TIME = "a day, such as 2026-11-21, or a time with its zone, such as 2026-11-21T10:00:00Z"
EXPECTED = {
    "key": "the id of a key",
    "model": "the name of a model",
    "channel": "the name of a channel",
    "status": "an HTTP status, from 100 to 599",
    "from": A_TIME,
    "to": A_TIME,
    "request_id": "the x-request-id of an answer",
    "limit": "a whole number from 1 to 500",
    "before": "the `next` of an earlier answer",
    "tokens": "a whole number of tokens to add, which may be negative",
    "cost": "a whole number of millionths of the currency's unit to add, which may be negative",
    "reason": "a text of at most 500 characters",
}
Moment = Annotated[str, Meta(max_length=40, description=f"{A_TIME.capitalize()}.")]


class RequestParameters(msgspec.Struct, kw_only=True, rename={"since": "from", "until": "to"}):
    key: (
        Annotated[Text, Meta(description="The id of a key; the empty one is that of requests without a key.")] | None
    ) = None
    model: Text | None = None
    channel: Text | None = None
    status: Annotated[int, Meta(ge=100, le=599)] | None = None
    since: Moment | None = None
    until: Annotated[str, Meta(max_length=40, description="The same; a day is included, a time is not.")] | None = None
    request_id: Annotated[Text, Meta(description="What was answered as x-request-id.")] | None = None
    limit: Annotated[int, Meta(ge=1, le=500, description="The most rows of a page.")] = 50
    before: Cursor | None = None


class AdjustBody(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """What is added to the sums; `reason` goes to the log of changes."""

    tokens: Annotated[int, Meta(ge=-MOST, le=MOST)] = 0
    cost: Annotated[int, Meta(ge=-MOST, le=MOST)] = 0
    reason: Annotated[str, Meta(max_length=500, pattern=r"^[^\x00]*\Z")] = ""


class ShownRequest(msgspec.Struct, kw_only=True):
    """A row of the ledger. `at` is in milliseconds since 1970, stage times are in microseconds, prices and `cost` in
    millionths of the currency's unit; `reference` is the entry that an `adjust` corrects.
    """

    entry: str
    kind: Literal["request", "adjust"]
    reference: str
    request_id: str
    at: int
    key: str
    key_name: str | None
    model: str
    channel: str
    status: int
    error: str
    documents: int
    tokens: int
    cached_tokens: int
    search_units: int
    estimated: bool
    attempts: int
    total_us: int
    queue_us: int
    tokenize_us: int
    infer_us: int
    upstream_us: int
    price_tokens: int
    price_searches: int
    cost: int


class ShownRequests(msgspec.Struct):
    """`next` is null where there is nothing older. A page may hold fewer rows than its limit, or none, and still have a
    `next`: for a model, a channel or a status so many rows are looked at for one page, and no more.
    """

    currency: str
    requests: list[ShownRequest]
    next: str | None


class RequestRoutes:
    def __init__(self, application: Application) -> None:
        self._application = application

    def routes(self) -> Sequence[AdminRoute]:
        return (
            AdminRoute(
                method="GET",
                path="/requests",
                answer=self.page,
                summary="The requests in the ledger, newest first",
                asks=RequestParameters,
                gives=ShownRequests,
            ),
            AdminRoute(
                method="POST",
                path="/requests/{entry}/adjust",
                answer=self.adjust,
                summary="Correct what a request used, by a row of its own",
                takes=AdjustBody,
                gives=ShownRequest,
                status=201,
                headers={HEADER: "What is sent again under the same key is corrected once."},
            ),
        )

    async def page(self, request: Request) -> Response:
        """Values are compared as they are, from the first to the last character."""
        query = query_of(read_query(request, RequestParameters, EXPECTED))
        page = await kept(self._application.books.usage, "ledger").rows(query)
        names = await self._names()
        shown = [_shown(entry, names) for _, entry in page.rows]
        further = None if page.further is None else cursor_of(page.further)
        return answered(ShownRequests(self._application.settings.ledger.currency, shown, further))

    async def adjust(self, request: Request) -> Response:
        """Adds tokens and cost, negative ones to take them back, to the sums of the request's day of today, key, model and
        channel. The log of changes is written first: where it cannot be, nothing is corrected.

        Under an Idempotency-Key the row's id comes of that key, and no id is in the ledger twice.
        """
        body = await read(request, AdjustBody, EXPECTED)
        key = idempotency_key_of(request.headers.get(HEADER))
        if not (body.tokens or body.cost):
            raise BadRequest("There is nothing to correct: `tokens` and `cost` are 0.", param="tokens")
        books = self._application.books
        ledger, audit = kept(books.ledger, "ledger"), kept(books.audit, "log of changes")
        wrong = await self._entry(part_of_path(request, "entry"))
        correction = correction_of(wrong, body, key)
        made = None if key is None else await kept(books.usage, "ledger").row(correction.entry)
        if made is not None:
            return self._again(made, body, await self._names())
        after = {"entry": correction.entry, "tokens": body.tokens, "cost": body.cost, "reason": body.reason}
        before = {"tokens": wrong.tokens, "cost": wrong.cost}
        await audit.write(actor_of(request), "request.adjust", wrong.entry, before, after)
        await ledger.record(correction)
        return answered(_shown(correction, await self._names()), 201)

    def _again(self, made: Entry, body: AdjustBody, names: dict[str, str]) -> Response:
        if (made.tokens, made.cost) != (body.tokens, body.cost):
            raise IdempotencyMismatch("Under this Idempotency-Key the request was corrected otherwise.", param=HEADER)
        response = answered(_shown(made, names), 201)
        response.headers[REPLAYED] = "true"
        return response

    async def _entry(self, name: str) -> Entry:
        found = None
        if len(name) <= LONGEST_ENTRY and name.isalnum():
            found = await kept(self._application.books.usage, "ledger").row(name)
        if found is None:
            raise NotFound(f"There is no entry {name[:100]!r} in the ledger.")
        if found.kind != "request":
            raise Conflict(f"The entry is a correction itself; correct {found.reference} again.")
        return found

    async def _names(self) -> dict[str, str]:
        keys = self._application.books.keys
        return {} if keys is None else {key.id: key.name for key in await keys.list()}


def query_of(asked: RequestParameters) -> LedgerQuery:
    """Raises `BadRequest`, naming the parameter."""
    return LedgerQuery(
        key=asked.key,
        model=asked.model,
        channel=asked.channel,
        status=asked.status,
        request_id=asked.request_id,
        since=None if asked.since is None else _milliseconds(asked.since, "from"),
        until=None if asked.until is None else _milliseconds(asked.until, "to", whole_day=True),
        limit=asked.limit,
        before=None if asked.before is None else values_of(asked.before, tuple[_Whole, _Whole], "before"),
    )


_Whole = Annotated[int, Meta(ge=0, le=2**63 - 1)]


def _milliseconds(text: str, name: str, *, whole_day: bool = False) -> int:
    """Of a day its first, or with `whole_day` the first after it."""
    try:
        if len(text) == len("2026-11-21"):
            day = date.fromisoformat(text) + timedelta(days=whole_day)
            moment = datetime(day.year, day.month, day.day, tzinfo=UTC)
        else:
            moment = datetime.fromisoformat(text)
        if moment.tzinfo is not None:
            return int(moment.timestamp() * 1000)
    except (ValueError, OverflowError):
        pass
    raise BadRequest(f"`{name}` must be {A_TIME}.", param=name)


def correction_of(wrong: Entry, body: AdjustBody, key: str | None = None) -> Entry:
    """Of today, since the sums of a day that is over may have been billed already; always the same one under a `key`."""
    return Entry(
        entry=uuid7() if key is None else uuid5(NAMESPACE_OID, f"{wrong.entry} {key}").hex,
        request_id=wrong.request_id,
        at=int(time() * 1000),
        key_id=wrong.key_id,
        model=wrong.model,
        channel=wrong.channel,
        documents=0,
        status=wrong.status,
        tokens=body.tokens,
        cost=body.cost,
        kind="adjust",
        reference=wrong.entry,
    )


def _shown(entry: Entry, names: dict[str, str]) -> ShownRequest:
    fields = msgspec.structs.asdict(entry)
    del fields["completion"]
    key = fields.pop("key_id")
    return ShownRequest(key=key, key_name=names.get(key), **fields)
