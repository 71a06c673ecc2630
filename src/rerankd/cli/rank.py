"""`rerankd rank QUERY [FILE]`: the lines of a file, or of standard input, in order of relevance."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from time import time
from typing import Annotated
from uuid import uuid4

import msgspec
import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from rerankd.app import Application
from rerankd.catalog import Catalog
from rerankd.cli.serve import model_settings
from rerankd.cli.terminal import loading_bars, print_json, printable, score_bar
from rerankd.dialects.superset import Superset
from rerankd.errors import BadRequest
from rerankd.settings import Settings, load_settings
from rerankd.types import Call, Document, RerankRequest, RerankResponse, ScoreKind

STDIN = "-"


def rank(
    query: Annotated[str, typer.Argument(help="What to look for.")],
    file: Annotated[
        str, typer.Argument(help="A document a line, or JSON Lines with `text`; - is standard input.")
    ] = STDIN,
    model: Annotated[
        str | None, typer.Option("--model", "-m", help="A served model's name, or NAME=SOURCE, or a source.")
    ] = None,
    top_n: Annotated[int | None, typer.Option("--top-n", "-n", min=0, help="Show only the best N.")] = None,
    config: Annotated[Path | None, typer.Option(help="The configuration; ./rerankd.toml where there is one.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, as POST /v1/rerank answers.")] = False,
) -> None:
    """Rank the documents of a file for a query."""
    import asyncio

    documents = read_documents(file)
    if not query:
        raise BadRequest("The query is empty.", param="query")
    settings, name = _settings(config, model)
    with loading_bars(quiet=as_json) as progress, Application(settings, progress) as application:
        request = RerankRequest(
            query=query,
            documents=tuple(map(Document, documents)),
            model=application.catalog.name_for(name),
            top_n=top_n or None,
            return_documents=True,
        )
        call = Call(request_id=uuid4().hex, created=int(time()))
        answer = asyncio.run(application.reranker.rerank(request, call))
    if as_json:
        print_json(json.loads(Superset().render_response(answer, request, call)))
    else:
        _show(answer, _score_kind(application.catalog, answer.model))


def read_documents(file: str) -> list[str]:
    """The documents of `file`, in order. Raises `BadRequest`, naming the line."""
    name = "standard input" if file == STDIN else file
    if file == STDIN and sys.stdin.isatty():
        typer.echo("Documents, one a line; end with Ctrl-D:", err=True)
    try:
        raw = sys.stdin.buffer.read() if file == STDIN else Path(file).read_bytes()
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as cause:
        line = raw[: cause.start].count(b"\n") + 1
        raise BadRequest(f"{name}, line {line} is not UTF-8.") from None
    except OSError as cause:
        raise BadRequest(f"{name} cannot be read: {cause.strerror}.") from None
    lines = [(number, line) for number, line in enumerate(text.split("\n"), 1) if line.strip()]
    if not lines:
        raise BadRequest(f"{name} holds no documents.")
    as_objects = _text_of(lines[0][1]) is not None
    return [_document(line, name, number) if as_objects else line.strip() for number, line in lines]


def _document(line: str, name: str, number: int) -> str:
    text = _text_of(line)
    if text is None:
        raise BadRequest(f"{name}, line {number} is not a JSON object with a string `text`, as the first line is.")
    return text


def _text_of(line: str) -> str | None:
    """The `text` of a line that is a JSON object with one, else None."""
    try:
        return msgspec.json.decode(line, type=Document).text
    except (msgspec.DecodeError, UnicodeEncodeError, RecursionError):
        return None


def _settings(config: Path | None, model: str | None) -> tuple[Settings, str | None]:
    """With `--model`, that model alone is loaded: a configured one by its name or alias, else what it says itself."""
    settings = load_settings(config)
    if model is None:
        default = settings.defaults.model
        chosen = [entry for entry in settings.models if default is None or default in (entry.name, *entry.aliases)]
        return (settings.model_copy(update={"models": tuple(chosen[:1])}) if chosen else settings), default
    for entry in settings.models:
        if model in (entry.name, *entry.aliases):
            return settings.model_copy(update={"models": (entry,)}), model
    entry = model_settings(model)
    return Settings(models=(entry,)), entry.name


def _score_kind(catalog: Catalog, model: str) -> ScoreKind:
    return next(card.score for card in catalog.cards if card.name == model)


def _show(answer: RerankResponse, kind: ScoreKind) -> None:
    console = Console(highlight=False)
    on_terminal = console.is_terminal
    if not on_terminal:
        console.width = 10**6
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("rank", justify="right")
    table.add_column("score", justify="right")
    table.add_column("")
    table.add_column("text", no_wrap=True, overflow="ellipsis")
    low, high = _scale([result.relevance_score for result in answer.results], kind)
    for place, result in enumerate(answer.results, 1):
        bar = score_bar((result.relevance_score - low) / (high - low), unicode=console.encoding.startswith("utf"))
        text = result.document.text if result.document else ""
        table.add_row(
            str(place), f"{result.relevance_score:.4f}", Text(bar, style="cyan"), Text(printable(text)), style=None
        )
    console.print(table)
    for warning in answer.warnings:
        Console(stderr=True, highlight=False).print(f"warning: {warning}", markup=False)


def _scale(scores: list[float], kind: ScoreKind) -> tuple[float, float]:
    """What an empty and a full bar mean: a probability has its own scale, other scores that of their company."""
    if kind == "probability":
        return 0.0, 1.0
    low, high = min(scores), max(scores)
    return (low, high) if high > low else (low - 1.0, high)
