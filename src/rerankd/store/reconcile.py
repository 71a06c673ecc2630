"""What a provider's invoice says was used, beside what the ledger says: by day and channel, one line each."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import NamedTuple

from sqlalchemy import func, select

from rerankd.errors import BadSettings
from rerankd.store.database import Database
from rerankd.store.tables import USAGE

SECONDS = 600.0
MOST_LINES, MOST_BYTES, LARGEST = 1_000_000, 64 * 2**20, 10**18
NEEDED, OPTIONAL = ("day", "channel", "tokens"), "cost"
MICRO = 1_000_000


class Place(NamedTuple):
    day: str
    channel: str


class Used(NamedTuple):
    """`cost` is in millionths of the currency's unit; None where the invoice does not say."""

    tokens: int
    cost: int | None = None


@dataclass(frozen=True, slots=True)
class Line:
    """`off` is the larger difference, in percent of the invoice: of tokens, and of the cost where that is given."""

    day: str
    channel: str
    billed: Used
    ours: Used
    off: float


async def reconcile(database: Database, invoice: Path) -> list[Line]:
    """All of the invoice, and what the ledger has of its channels in its days that it lacks.

    Tokens that came out of the cache were never sent, and so are not the provider's. Raises `BadSettings` where the file
    cannot be read, naming the line, and what `Database.transaction` raises.
    """
    billed = read(invoice)
    if not billed:
        return []
    ours = await _ours(database, billed)
    places = sorted({*billed, *ours})
    return [_line(place, billed.get(place, Used(0)), ours.get(place, Used(0, 0))) for place in places]


def read(invoice: Path) -> Mapping[Place, Used]:
    """Of several lines for one day and channel, the sum. Raises `BadSettings`, naming the line."""
    used: dict[Place, Used] = {}
    try:
        if invoice.stat().st_size > MOST_BYTES:
            raise BadSettings(f"{invoice} is larger than {MOST_BYTES // 2**20} MiB.")
        with invoice.open(encoding="utf-8-sig", newline="") as file:
            for place, more in _lines(csv.DictReader(file), invoice):
                had = used.get(place, Used(0, None))
                cost = None if more.cost is None and had.cost is None else (had.cost or 0) + (more.cost or 0)
                used[place] = Used(had.tokens + more.tokens, cost)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise BadSettings(f"{invoice} cannot be read: {getattr(error, 'strerror', None) or 'it is no CSV'}.") from None
    return used


def _lines(lines: csv.DictReader[str], invoice: Path) -> Iterator[tuple[Place, Used]]:
    missing = [name for name in NEEDED if name not in (lines.fieldnames or ())]
    if missing:
        raise BadSettings(
            f"{invoice} has no column {', '.join(missing)}; it needs day, channel, tokens, and may have cost."
        )
    for number, line in enumerate(lines, start=1):
        if number > MOST_LINES:
            raise BadSettings(f"{invoice} has more than {MOST_LINES:,} lines.")
        try:
            day = date.fromisoformat((line["day"] or "").strip()).isoformat()
            cost = (line.get(OPTIONAL) or "").strip()
            used = Used(_number(line["tokens"], 1), _number(cost, MICRO) if cost else None)
        except (ValueError, InvalidOperation):
            raise BadSettings(
                f"{invoice}, line {lines.line_num}: a line is a day such as 2026-11-21, a channel, and a number of tokens."
            ) from None
        yield Place(day, (line["channel"] or "").strip()), used


def _number(text: str | None, unit: int) -> int:
    number = Decimal((text or "").strip().replace("_", "")) * unit
    if not number.is_finite() or not 0 <= number <= LARGEST:
        raise ValueError
    return int(number.to_integral_value())


async def _ours(database: Database, billed: Mapping[Place, Used]) -> dict[Place, Used]:
    columns, days = USAGE.c, [place.day for place in billed]
    sums = (func.sum(columns.tokens - columns.cached_tokens), func.sum(columns.cost))
    asked = (
        select(columns.day, columns.channel, *sums)
        .where(columns.day.between(min(days), max(days)))
        .group_by(columns.day, columns.channel)
    )
    channels = {place.channel for place in billed}
    async with database.transaction(SECONDS) as connection:
        found: Sequence[tuple[str, str, int, int]] = [tuple(row) for row in await connection.execute(asked)]
    return {
        Place(day, channel): Used(int(tokens), int(cost)) for day, channel, tokens, cost in found if channel in channels
    }


def _line(place: Place, billed: Used, ours: Used) -> Line:
    off = _percent(billed.tokens, ours.tokens)
    if billed.cost is not None:
        off = max(off, _percent(billed.cost, ours.cost or 0))
    return Line(place.day, place.channel, billed, ours, off)


def _percent(billed: int, ours: int) -> float:
    return 0.0 if billed == ours else 100 * abs(billed - ours) / max(billed, 1)
