"""`rerankd db`: the database is brought up to date, checked against itself, and compared with a provider's invoice."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from rerankd.cli.terminal import print_json, printable
from rerankd.errors import BadSettings, StoreUnavailable
from rerankd.settings import Settings, load_settings

if TYPE_CHECKING:
    from rerankd.store.check import Difference, Findings
    from rerankd.store.database import Database
    from rerankd.store.reconcile import Line

Done = TypeVar("Done")

ACTOR = "command line"
WIDE = 10_000
MOST_SHOWN = 50
NUMBERS = ("kept", "rows say", "billed", "ledger", "off by")

Config = Annotated[Path | None, typer.Option(help="The configuration; ./rerankd.toml where there is one.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]

app = typer.Typer(name="db", help="The database: keys, the ledger, stored channels.", no_args_is_help=True)


@app.callback()
def db() -> None:
    """The database: keys, the ledger, stored channels."""


@app.command("upgrade")
def upgrade(config: Config = None, as_json: AsJson = False) -> None:
    """Make the database, or bring it up to date; a server does so as well when it first uses it."""
    database = _database(load_settings(config))
    before, now = _done(database, database.upgrade)
    if as_json:
        print_json({"database": database.shown, "from": before or None, "to": now})
    elif before == now:
        typer.echo(f"{database.shown} is up to date: version {now}.")
    else:
        typer.echo(f"{database.shown} is at version {now} now; {f'it was at {before}' if before else 'it was empty'}.")


@app.command("check")
def check_ledger(
    config: Config = None,
    mend: Annotated[bool, typer.Option("--repair", help="Set sums that differ to what the rows come to.")] = False,
    as_json: AsJson = False,
) -> None:
    """Add up the ledger anew, compare, and look for what is there twice or was refused; exit with 1 if any is."""
    from rerankd.store.check import check, repair

    settings = load_settings(config)
    database = _that_exists(settings)
    pepper = None if settings.pepper is None else settings.pepper.get_secret_value()

    async def checked() -> tuple[Findings, list[str]]:
        found = await check(database, settings.server.spool_folder, pepper)
        days = sorted({difference.day for difference in found.differences}) if mend else []
        if days:
            await repair(database, days, ACTOR)
            found = await check(database, settings.server.spool_folder, pepper)
        return found, days

    found, repaired = _done(database, checked)
    if as_json:
        print_json(_as_json(database, found, repaired))
    else:
        _show(found, repaired)
    if not found.well:
        raise typer.Exit(1)


@app.command("reconcile")
def reconcile_invoice(
    invoice: Annotated[Path, typer.Argument(help="A CSV file: day, channel, tokens, and cost if it is known.")],
    tolerance: Annotated[float, typer.Option(min=0, help="Percent by which a line may differ.")] = 1.0,
    config: Config = None,
    as_json: AsJson = False,
) -> None:
    """Compare a provider's invoice with the ledger, by day and channel; exit with 1 where a line differs."""
    from rerankd.store.reconcile import reconcile

    database = _that_exists(load_settings(config))
    lines = _done(database, lambda: reconcile(database, invoice))
    off = [line for line in lines if line.off > tolerance]
    if as_json:
        print_json({"lines": len(lines), "tolerance": tolerance, "differences": [_line_as_json(line) for line in off]})
    else:
        _show_lines(lines, off, tolerance)
    if off:
        raise typer.Exit(1)


def _database(settings: Settings) -> Database:
    from rerankd.store.database import Database  # half a second's import, which no other command needs

    logging.getLogger("rerankd.store").addHandler(logging.NullHandler())  # what went wrong is said once, as an error
    return Database(settings.server.database.get_secret_value())


def _that_exists(settings: Settings) -> Database:
    """Raises `BadSettings` where there is none: an empty one that is made for the question would be found well."""
    database = _database(settings)
    if not database.exists:
        raise BadSettings(
            f"There is no database {database.shown} (server.database); --config names the configuration of the server."
        )
    return database


def _done(database: Database, work: Callable[[], Coroutine[Any, Any, Done]]) -> Done:
    """Raises `BadSettings` with the reason where the database is away: whoever asks here may know it."""
    try:
        return asyncio.run(work())
    except StoreUnavailable as error:
        why = f": {database.trouble}" if database.trouble else ""
        raise BadSettings(f"{error.message} It is {database.shown} (server.database){why}.") from None


def _as_json(database: Database, found: Findings, repaired: Sequence[str]) -> dict[str, Any]:
    return {
        "database": database.shown,
        "well": found.well,
        "rows": found.rows,
        "differences": [asdict(difference) for difference in found.differences],
        "twice": list(found.twice),
        "spools": [{**asdict(spool), "folder": str(spool.folder)} for spool in found.spools],
        "problems": list(found.problems),
        "repaired": list(repaired),
    }


def _line_as_json(line: Line) -> dict[str, Any]:
    return {
        "day": line.day,
        "channel": line.channel,
        "billed": line.billed._asdict(),
        "ledger": line.ours._asdict(),
        "percent": round(line.off, 3),
    }


def _show(found: Findings, repaired: Sequence[str]) -> None:
    if repaired:
        typer.echo(f"The sums of {', '.join(repaired)} were set to what the rows come to.")
    waiting = f"; {found.waiting:,} more are safe in the spool, on their way" if found.waiting else ""
    if found.well:
        typer.echo(f"All is well: {_counted(found.rows, 'row')}, each there once, and the sums are theirs{waiting}.")
        return
    for problem in found.problems:
        typer.echo(problem)
    if found.twice:
        typer.echo(f"There more than once: {_counted(len(found.twice), 'row')}, such as {found.twice[0]}.")
    for spool in found.spools:
        if spool.rejected:
            refused = _counted(spool.rejected, "row")
            typer.echo(f"Refused by the database: {refused}, kept in {spool.rejects}.")
        if spool.damaged:
            typer.echo(
                f"Damaged on the disk: {_counted(spool.damaged, 'file')} in {spool.folder}, of which rows are lost."
            )
    if found.differences:
        _show_differences(found.differences)
    typer.echo(f"Not all is well: {_counted(found.rows, 'row')}{waiting}.")


def _show_differences(differences: Sequence[Difference]) -> None:
    table = _table("day", "key", "model", "channel", "what", "kept", "rows say")
    for one in differences[:MOST_SHOWN]:
        names = (one.day, one.key_id or "-", one.model or "-", one.channel or "-", one.what)
        table.add_row(*(Text(printable(name)) for name in names), f"{one.kept:,}", f"{one.rows:,}")
    _print(table)
    if len(differences) > MOST_SHOWN:
        typer.echo(f"... and {len(differences) - MOST_SHOWN:,} more; --json shows them.")
    typer.echo("Sums differ from what the rows come to; --repair sets them to that.")


def _show_lines(lines: Sequence[Line], off: Sequence[Line], tolerance: float) -> None:
    if not off:
        typer.echo(f"{_counted(len(lines), 'line')} compared, none off by more than {tolerance:g} %.")
        return
    table = _table("day", "channel", "what", "billed", "ledger", "off by")
    for line in off[:MOST_SHOWN]:
        place = (line.day, Text(printable(line.channel) or "-"))
        table.add_row(*place, "tokens", f"{line.billed.tokens:,}", f"{line.ours.tokens:,}", f"{line.off:.1f} %")
        if line.billed.cost is not None:
            table.add_row("", "", "cost", _units(line.billed.cost), _units(line.ours.cost or 0), "")
    _print(table)
    if len(off) > MOST_SHOWN:
        typer.echo(f"... and {len(off) - MOST_SHOWN:,} more; --json shows them.")
    typer.echo(f"{len(off):,} of {len(lines):,} lines differ by more than {tolerance:g} %.")


def _counted(number: int, what: str) -> str:
    return f"{number:,} {what}{'' if number == 1 else 's'}"


def _units(micros: int) -> str:
    return f"{micros / 1_000_000:,.6f}".rstrip("0").rstrip(".")


def _table(*columns: str) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        number = column in NUMBERS
        table.add_column(column, overflow="fold", justify="right" if number else "left", no_wrap=number)
    return table


def _print(table: Table) -> None:
    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = WIDE
    console.print(table)
