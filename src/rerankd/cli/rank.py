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
from rich.text import Text

from rerankd.app import Application
from rerankd.catalog import Catalog
from rerankd.cli.serve import model_settings
from rerankd.cli.terminal import BAR, loading_bars, print_json, printable, score_bar, writes_unicode
from rerankd.dialects.fields import MOST_CHUNKS, MOST_OVERLAP, MOST_TOKENS
from rerankd.dialects.superset import Superset
from rerankd.errors import BadRequest
from rerankd.library import request_of
from rerankd.settings import Settings, load_settings
from rerankd.types import Call, RerankResponse, ScoreKind

STDIN = "-"
JSON_LINES = (".jsonl", ".ndjson")


class _Line(msgspec.Struct):
    text: str


def rank(
    query: Annotated[str, typer.Argument(help="What to look for.")],
    file: Annotated[
        str, typer.Argument(help="A document a line, or JSON Lines with `text`; - is standard input.")
    ] = STDIN,
    model: Annotated[
        str | None, typer.Option("--model", "-m", help="A served model's name, or NAME=SOURCE, or a source.")
    ] = None,
    top_n: Annotated[int | None, typer.Option("--top-n", "-n", min=0, help="Show only the best N.")] = None,
    instruction: Annotated[str | None, typer.Option(help="What the ranking follows, where the model can.")] = None,
    max_tokens_per_doc: Annotated[
        int | None, typer.Option(min=1, max=MOST_TOKENS, metavar="N", help="Read N tokens of each document.")
    ] = None,
    max_chunks_per_doc: Annotated[
        int | None,
        typer.Option(
            min=1, max=MOST_CHUNKS, metavar="N", help="Score a long document in at most N windows; the best counts."
        ),
    ] = None,
    overlap_tokens: Annotated[
        int | None, typer.Option(min=0, max=MOST_OVERLAP, metavar="N", help="Tokens that neighbouring windows share.")
    ] = None,
    no_truncation: Annotated[
        bool, typer.Option("--no-truncation", help="Refuse what is too long for the model instead of cutting it.")
    ] = False,
    config: Annotated[Path | None, typer.Option(help="The configuration; ./rerankd.toml where there is one.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, as POST /v1/rerank answers.")] = False,
) -> None:
    """Rank the documents of a file for a query."""
    import asyncio

    documents = read_documents(file)
    request = request_of(
        query,
        documents,
        top_n=top_n,
        instruction=instruction,
        max_tokens_per_doc=max_tokens_per_doc,
        max_chunks_per_doc=max_chunks_per_doc,
        overlap_tokens=overlap_tokens,
        truncation=not no_truncation,
    )
    settings, name = _settings(config, model)
    with loading_bars(quiet=as_json) as progress, Application(settings, progress) as application:
        request = msgspec.structs.replace(request, model=application.catalog.name_for(name))
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
    as_objects = _text_of(lines[0][1]) is not None or Path(file).suffix in JSON_LINES
    return [_document(line, name, number) if as_objects else line.strip() for number, line in lines]


def _document(line: str, name: str, number: int) -> str:
    text = _text_of(line)
    if text is None:
        raise BadRequest(f"{name}, line {number} is not a JSON object with a string `text`.")
    return text


def _text_of(line: str) -> str | None:
    """The `text` of a line that is a JSON object with one, else None."""
    try:
        return msgspec.json.decode(line, type=_Line).text
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
    """A line a document; on a terminal cut to its width, and coloured."""
    console = Console(highlight=False)
    low, high = _scale([result.relevance_score for result in answer.results], kind)
    unicode = writes_unicode(sys.stdout)
    console.print(Text(f"{'rank':>4}  {'score':>7}  {'':{BAR}}  text", style="bold"))
    for place, result in enumerate(answer.results, 1):
        share = (result.relevance_score - low) / (high - low)
        text = printable(result.document.text) if result.document else ""
        line = Text.assemble(
            f"{place:>4}  {result.relevance_score:>7.4f}  ", (score_bar(share, unicode=unicode), "cyan"), f"  {text}"
        )
        if console.is_terminal:
            console.print(line, no_wrap=True, overflow="ellipsis")
        else:
            typer.echo(line.plain)
    for warning in answer.warnings:
        Console(stderr=True, highlight=False, soft_wrap=True).print(f"warning: {warning}", markup=False)


def _scale(scores: list[float], kind: ScoreKind) -> tuple[float, float]:
    """What an empty and a full bar mean: a probability has its own scale, other scores that of their company."""
    if kind == "probability":
        return 0.0, 1.0
    low, high = min(scores), max(scores)
    return (low, high) if high > low else (low - 1.0, high)
