"""`rerankd models`: which models the configuration names, and whether their files are on this machine."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import msgspec
import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from rerankd.app import served_models
from rerankd.cli.terminal import print_json
from rerankd.engine.inventory import Entry, inspect
from rerankd.settings import ModelSettings, load_settings
from rerankd.types import BUILTIN, LEXICAL

WIDE = 10_000
"""Lines for a program are not folded."""

app = typer.Typer(name="models", help="The models that rerankd can serve here.", no_args_is_help=True)


@app.callback()
def models() -> None:
    """The models that rerankd can serve here."""


@app.command("list")
def list_models(
    config: Annotated[Path | None, typer.Option(help="The configuration; ./rerankd.toml where there is one.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """The configured models and those that come with rerankd, and whether their files are here."""
    configured = served_models(load_settings(config))
    known = {model.origin for model in configured}
    extra = [ModelSettings(name=name) for name in (BUILTIN, LEXICAL) if name not in known]
    rows = [
        (model, inspect(model.origin), served)
        for group, served in ((configured, True), (extra, False))
        for model in group
    ]
    if as_json:
        print_json([{**_described(model, entry), "configured": served} for model, entry, served in rows])
        return
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("name", "aliases", "source", "family", "size", "files"):
        table.add_column(column, overflow="fold")
    for model, entry, served in rows:
        where = str(entry.folder) if entry.folder else entry.reason
        aliases = ", ".join(model.aliases) if served else "(not served)"
        table.add_row(*map(Text, (model.name, aliases, model.origin, entry.family, _size(entry.size), where)))
    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = WIDE
    console.print(table)


def _described(model: ModelSettings, entry: Entry) -> dict[str, object]:
    facts = msgspec.to_builtins(entry)
    return {"name": model.name, "aliases": list(model.aliases), "source": model.origin, **facts}


def _size(size: int) -> str:
    return f"{size / 1e6:.0f} MB" if size else ""
