"""`rerankd keys`: made, shown once, listed, changed, rotated and revoked, in the database itself, server or none.

A running server has every change within a second, and within five on PostgreSQL.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from time import time
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import msgspec
import typer
from msgspec import UNSET, UnsetType
from rich.console import Console
from rich.table import Table
from rich.text import Text

from rerankd.accounts import Limits, Quotas, Scope
from rerankd.cli.terminal import print_json, printable
from rerankd.errors import BadSettings
from rerankd.secret import Secret
from rerankd.settings import load_settings
from rerankd.store.key_records import KeyChange, KeyRecord, NewKey

if TYPE_CHECKING:
    from rerankd.store.keys import KeyStore

Done = TypeVar("Done")

ACTOR = "command line"
WIDE = 10_000
UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 7 * 86_400}
SPANS = (("year", 365 * 86_400), ("month", 30 * 86_400), ("day", 86_400), ("hour", 3600), ("minute", 60), ("second", 1))
NONE = "none"
NUMBER = re.compile(r"([0-9]{1,15}(?:\.[0-9]{1,9})?)([kmg]?)")
SIZES = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9}
LIMITS = {"rpm": "requests", "tpm": "tokens", "dpm": "documents", "concurrency": "concurrency"}
QUOTAS = {"quota": "total", "quota_month": "month", "quota_day": "day"}

Config = Annotated[Path | None, typer.Option(help="The configuration; ./rerankd.toml where there is one.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Name = Annotated[str, typer.Argument(help="The key's name, or its id.", show_default=False)]
Rpm = Annotated[str | None, typer.Option(help="Requests in any 60 seconds; none for no limit.")]
Tpm = Annotated[str | None, typer.Option(help="Tokens in any 60 seconds.")]
Dpm = Annotated[str | None, typer.Option(help="Documents in any 60 seconds.")]
Concurrency = Annotated[str | None, typer.Option(help="Requests at one time.")]
Quota = Annotated[str | None, typer.Option(help="Tokens in all.")]
QuotaMonth = Annotated[str | None, typer.Option(help="Tokens in a month of UTC.")]
QuotaDay = Annotated[str | None, typer.Option(help="Tokens in a day of UTC.")]
Models = Annotated[
    list[str] | None, typer.Option("--model", help="A model that it may use; by default all. Repeatable.")
]
Networks = Annotated[
    list[str] | None, typer.Option("--network", help="From where it may be used, such as 10.0.0.0/8. Repeatable.")
]
Expires = Annotated[str | None, typer.Option(help="Such as 30d, 12h, 2027-01-31; none for never.")]
SharedCache = Annotated[
    bool | None,
    typer.Option(
        "--shared-cache/--own-cache", help="Whether its scores are shared with other such keys; by default its own."
    ),
]
Strict = Annotated[
    bool | None, typer.Option("--strict/--lenient", help="Whether unknown fields are refused; by default lenient.")
]

app = typer.Typer(name="keys", help="The keys that this server takes.", no_args_is_help=True)


@app.callback()
def keys() -> None:
    """The keys that this server takes."""


@app.command("create")
def create_key(
    name: Annotated[str, typer.Argument(help="What the key is to be called.", show_default=False)],
    rpm: Rpm = None,
    tpm: Tpm = None,
    dpm: Dpm = None,
    concurrency: Concurrency = None,
    quota: Quota = None,
    quota_month: QuotaMonth = None,
    quota_day: QuotaDay = None,
    model: Models = None,
    network: Networks = None,
    expires: Expires = None,
    shared_cache: SharedCache = None,
    strict: Strict = None,
    scope: Annotated[Scope, typer.Option(help="rank, or admin: for /admin alone.")] = "rank",
    config: Config = None,
    as_json: AsJson = False,
) -> None:
    """Make a key, and print it this once."""
    new = NewKey(
        name=name,
        scope=scope,
        models=tuple(model or ()),
        networks=tuple(network or ()),
        limits=_with(Limits(), LIMITS, rpm=rpm, tpm=tpm, dpm=dpm, concurrency=concurrency),
        quotas=_with(Quotas(), QUOTAS, quota=quota, quota_month=quota_month, quota_day=quota_day),
        shared_cache=bool(shared_cache),
        strict=bool(strict),
        expires=None if expires is None else _moment(expires),
    )
    record, key = _in_the_store(config, lambda store: store.create(new, actor=ACTOR))
    _show_once(record, key, as_json)


@app.command("list")
def list_keys(config: Config = None, as_json: AsJson = False) -> None:
    """All keys, the revoked ones too, and what each may; never a key itself."""
    records = _in_the_store(config, lambda store: store.list())
    if as_json:
        print_json(msgspec.to_builtins(records))
    elif records:
        _print_table(records)
    else:
        typer.echo("There are no keys; `rerankd keys create NAME` makes one.")


@app.command("update")
def update_key(
    name: Name,
    rpm: Rpm = None,
    tpm: Tpm = None,
    dpm: Dpm = None,
    concurrency: Concurrency = None,
    quota: Quota = None,
    quota_month: QuotaMonth = None,
    quota_day: QuotaDay = None,
    model: Annotated[
        list[str] | None, typer.Option("--model", help="The models it may use instead; none: all.")
    ] = None,
    network: Annotated[list[str] | None, typer.Option("--network", help="From where instead; none: anywhere.")] = None,
    expires: Expires = None,
    shared_cache: SharedCache = None,
    strict: Strict = None,
    enabled: Annotated[bool | None, typer.Option("--enable/--disable", help="Whether it is good for now.")] = None,
    rename: Annotated[str | None, typer.Option(help="Another name.")] = None,
    config: Config = None,
    as_json: AsJson = False,
) -> None:
    """Change what a key may; what is not given stays as it is."""

    def change(before: KeyRecord) -> KeyChange:
        return KeyChange(
            name=_given(rename),
            models=UNSET if model is None else _several(model),
            networks=UNSET if network is None else _several(network),
            limits=_with(before.limits, LIMITS, rpm=rpm, tpm=tpm, dpm=dpm, concurrency=concurrency),
            quotas=_with(before.quotas, QUOTAS, quota=quota, quota_month=quota_month, quota_day=quota_day),
            shared_cache=_given(shared_cache),
            strict=_given(strict),
            enabled=_given(enabled),
            expires=UNSET if expires is None else _moment(expires),
        )

    _show(_in_the_store(config, lambda store: store.update(name, change, actor=ACTOR)), as_json)


@app.command("rotate")
def rotate_key(
    name: Name,
    overlap: Annotated[
        str, typer.Option(help="How long the key from before is good, such as 24h; 0 for not at all.")
    ] = "24h",
    config: Config = None,
    as_json: AsJson = False,
) -> None:
    """Make another key in the place of one, and print it this once; its id, its limits and its quota stay."""
    seconds = _seconds(overlap)
    record, key = _in_the_store(config, lambda store: store.rotate(name, seconds, actor=ACTOR))
    _show_once(record, key, as_json)
    if not as_json and record.former_until is not None:
        typer.echo(f"The key from before is good for {_span(seconds)} more.", err=True)


@app.command("revoke")
def revoke_key(name: Name, config: Config = None, as_json: AsJson = False) -> None:
    """Take a key out of use, at once and for good."""
    _show(_in_the_store(config, lambda store: store.revoke(name, actor=ACTOR)), as_json)


def _in_the_store(config: Path | None, work: Callable[[KeyStore], Awaitable[Done]]) -> Done:
    from rerankd.store.database import Database  # half a second's import, which other commands need not wait for
    from rerankd.store.keys import KeyStore

    settings = load_settings(config)
    pepper = None if settings.pepper is None else settings.pepper.get_secret_value()
    database = Database(settings.server.database.get_secret_value())

    async def done() -> Done:
        try:
            return await work(KeyStore(database, pepper))
        finally:
            await database.close()

    return asyncio.run(done())


def _show_once(record: KeyRecord, key: Secret, as_json: bool) -> None:
    if as_json:
        print_json({**msgspec.to_builtins(record), "key": key.reveal()})
        return
    typer.echo(key.reveal())
    typer.echo(
        f"This is the key {printable(record.name)}. It is not shown again: what is kept of it cannot be turned back.",
        err=True,
    )


def _show(record: KeyRecord, as_json: bool) -> None:
    if as_json:
        print_json(msgspec.to_builtins(record))
    else:
        _print_table([record])


def _print_table(records: Sequence[KeyRecord]) -> None:
    now = time()
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("name", "id", "status", "may use", "limits", "made"):
        table.add_column(column, overflow="fold", no_wrap=column == "id")
    for record in records:
        cells = (
            record.name,
            record.id,
            _status(record, now),
            _may_use(record),
            _limits(record),
            _ago(record.created, now),
        )
        table.add_row(*(Text(printable(cell)) for cell in cells))
    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = WIDE
    console.print(table)


def _status(record: KeyRecord, now: float) -> str:
    if record.revoked is not None:
        return f"revoked {_ago(record.revoked, now)}"
    if not record.enabled:
        return "disabled"
    if record.expires is not None and record.expires <= now:
        return f"expired {_ago(record.expires, now)}"
    notes = ["good"]
    if record.expires is not None:
        notes.append(f"for {_span(record.expires - now)}")
    if record.former_until is not None and record.former_until > now:
        notes.append(f"(and its former key, for {_span(record.former_until - now)})")
    return " ".join(notes)


def _may_use(record: KeyRecord) -> str:
    if record.scope == "admin":
        return "/admin"
    models = ", ".join(record.models) or "all models"
    return f"{models} from {', '.join(record.networks)}" if record.networks else models


def _limits(record: KeyRecord) -> str:
    named = {
        "requests/min": record.limits.requests,
        "tokens/min": record.limits.tokens,
        "documents/min": record.limits.documents,
        "at a time": record.limits.concurrency,
        "tokens": record.quotas.total,
        "tokens/month": record.quotas.month,
        "tokens/day": record.quotas.day,
    }
    return ", ".join(f"{_short(number)} {name}" for name, number in named.items() if number is not None) or "none"


def _short(number: int) -> str:
    """1500000 as 1.5M, where nothing is lost by it."""
    for sign, size in (("G", 10**9), ("M", 10**6), ("k", 10**3)):
        if number >= size and number * 10 % size == 0:
            return f"{number / size:g}{sign}"
    return str(number)


def _ago(moment: int, now: float) -> str:
    return "just now" if now - moment < 60 else f"{_span(now - moment)} ago"


def _span(seconds: float) -> str:
    for name, size in SPANS:
        number = round(seconds / size)
        if number and seconds >= 0.95 * size:
            return f"{number} {name}{'' if number == 1 else 's'}"
    return "a moment"


Bounds = TypeVar("Bounds", Limits, Quotas)


def _with(before: Bounds, names: dict[str, str], **given: str | None) -> Bounds:
    changed = {names[option]: _number(option, text) for option, text in given.items() if text is not None}
    return msgspec.structs.replace(before, **changed)


def _number(option: str, text: str) -> int | None:
    """Of an option: 1000000, 1_000_000, 1.5M or none. Raises `BadSettings`."""
    if text.lower() == NONE:
        return None
    found = NUMBER.fullmatch(text.replace("_", "").lower())
    number = Decimal(found[1]) * SIZES[found[2]] if found else Decimal(0)
    if number < 1 or number != number.to_integral_value():
        raise BadSettings(f"--{option.replace('_', '-')} is a number such as 60 or 1.5M, or none; not {text[:100]!r}.")
    return int(number)


def _several(texts: Sequence[str]) -> tuple[str, ...]:
    return () if list(texts) == [NONE] else tuple(texts)


def _given(value: Any) -> Any | UnsetType:
    return UNSET if value is None else value


def _seconds(text: str) -> int:
    """Of 24h and the like. Raises `BadSettings`."""
    number, unit = (text, "s") if text.isdecimal() else (text[:-1], text[-1:])
    if not (number.isascii() and number.isdecimal()) or len(number) > 9 or unit not in UNITS:
        raise BadSettings(f"{text[:100]!r} is no length of time; one is 30d, 24h, 90m or 0.")
    return int(number) * UNITS[unit]


def _moment(text: str) -> int | None:
    """The end of --expires: after a length of time, or at the beginning of a day of UTC. Raises `BadSettings`."""
    if text.lower() == NONE:
        return None
    try:
        when = datetime.fromisoformat(text)
    except ValueError:
        when = datetime.now(UTC) + timedelta(seconds=_seconds(text))
    return int((when if when.tzinfo else when.replace(tzinfo=UTC)).timestamp())
