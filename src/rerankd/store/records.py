"""What the database holds, as values that come without a database."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from secrets import token_hex
from typing import Any, Literal

import msgspec

from rerankd.accounts import Entry


@dataclass(frozen=True, kw_only=True)
class StoredChannel:
    """`fields` may be shown; `secrets` are sealed for the name and the host, and in no repr. `revision` is another one
    after each change.
    """

    name: str
    host: str
    fields: Mapping[str, Any]
    secrets: bytes | None = field(default=None, repr=False)
    revision: str = field(default_factory=lambda: token_hex(8))


Dimension = Literal["day", "key", "model", "channel"]


@dataclass(frozen=True, kw_only=True)
class UsageQuery:
    """Which sums: of the days from `since` to `until`, both included, such as 2026-11-21; for each combination of `by`.

    Rows come in the order of `by`, at most `limit` of them, and only those behind the values `after`.
    """

    since: str
    until: str
    by: tuple[Dimension, ...] = ()
    key: str | None = None
    model: str | None = None
    channel: str | None = None
    limit: int = 1000
    after: tuple[str, ...] | None = None


class UsageSum(msgspec.Struct, frozen=True, kw_only=True):
    """What was used. `day`, `key`, `model` and `channel` are null where the sum goes over all of them.

    `failed` of the `requests` were not answered with 200; `estimated_tokens` of the `tokens` nobody counted exactly; `cost`
    is in millionths of the currency's unit.
    """

    day: str | None
    key: str | None
    model: str | None
    channel: str | None
    requests: int
    failed: int
    documents: int
    tokens: int
    cached_tokens: int
    estimated_tokens: int
    search_units: int
    cost: int


@dataclass(frozen=True, kw_only=True)
class LedgerQuery:
    """Which rows of the ledger, newest first: those that equal what is given, from the millisecond `since` to before
    `until`.

    `before` is the time and the number of the row behind which to go on.
    """

    key: str | None = None
    model: str | None = None
    channel: str | None = None
    status: int | None = None
    request_id: str | None = None
    since: int | None = None
    until: int | None = None
    limit: int = 50
    before: tuple[int, int] | None = None


@dataclass(frozen=True)
class LedgerPage:
    """Rows with their numbers; `further` is the `before` of the next page, None where there is nothing more.

    A page can hold fewer rows than were asked for, and still there may be more: so many were looked at.
    """

    rows: Sequence[tuple[int, Entry]]
    further: tuple[int, int] | None


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """A row of the audit log: who did what to what, when (milliseconds since 1970), and how it was before and after."""

    number: int
    at: int
    actor: str
    action: str
    target: str
    before: dict[str, Any] | None
    after: dict[str, Any] | None
