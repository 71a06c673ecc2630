"""`rerankd serve`: models are loaded, a port is opened, and a line says what is served, where and how."""

from __future__ import annotations

import gc
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from rerankd.app import Application
from rerankd.cli.terminal import loading_bars, print_json
from rerankd.dialects.fields import EXAMPLE
from rerankd.engine.sources import name_of_source
from rerankd.errors import BadSettings
from rerankd.secret import Secret
from rerankd.settings import ModelSettings, Settings, load_settings, sources
from rerankd.types import BUILTIN, CHANNEL, ModelCard

YOUNG = 10_000
"""Objects made since the last search for garbage after which there is another."""


def serve(
    config: Annotated[Path | None, typer.Option(help="The configuration; ./rerankd.toml where there is one.")] = None,
    model: Annotated[
        list[str] | None,
        typer.Option(
            help="NAME=SOURCE, or a source alone: a folder, a Hugging Face id, modelscope:ID, builtin, lexical."
        ),
    ] = None,
    host: Annotated[str | None, typer.Option(help="The address to listen on. [127.0.0.1]", show_default=False)] = None,
    port: Annotated[int | None, typer.Option(help="The port to listen on. [8000]", show_default=False)] = None,
    device: Annotated[str, typer.Option(help="For --model: auto, cpu, cuda.")] = "auto",
    dtype: Annotated[str, typer.Option(help="For --model: auto, float32, bfloat16, float16.")] = "auto",
    as_json: Annotated[bool, typer.Option("--json", help="Say what is served as one line of JSON.")] = False,
) -> None:
    """Serve rerankers over HTTP."""
    from rerankd.cli.books import Shelf
    from rerankd.server import log_lines, serving
    from rerankd.server.http import create_app, front
    from rerankd.server.keys import check_exposure

    overrides = _overrides(model, host, port, device, dtype)
    settings = load_settings(config, overrides)
    log_lines.install(settings.log.format)
    shelf = Shelf(settings)
    keys = shelf.key_state()
    usable = keys is None or keys.usable
    check_exposure(settings, usable)
    with serving.bind(settings.server) as listening:
        with loading_bars(quiet=as_json) as progress:
            application = Application(settings, progress, shelf.books(), sources(config, overrides))
        with application:
            app, url = front(create_app(application)), serving.url(listening)

            # Before the event loop runs: what holds the database in it could not go on while this waits for the database.
            started = Started(application, url, needs_key=usable, admin_key=shelf.admin_key())
            with _sparing_what_stays():
                serving.serve(app, listening, settings.server, lambda: _announce(started, as_json))


@dataclass(frozen=True)
class Started:
    """A server that takes requests; `admin_key` only where this start has made it."""

    application: Application
    url: str
    needs_key: bool
    admin_key: Secret | None


def model_settings(text: str, device: str = "auto", dtype: str = "auto") -> ModelSettings:
    """`NAME=SOURCE`, or a source whose name is its own. Raises `BadSettings`."""
    return Settings.parse({"models": [_model(text, device, dtype)]}).models[0]


def _model(text: str, device: str, dtype: str) -> dict[str, Any]:
    name, separator, source = text.partition("=")
    if not text or (separator and not (name and source)):
        raise BadSettings(f"--model {text!r} is neither NAME=SOURCE nor a source.")
    source = source if separator else text
    name = name if separator else name_of_source(text)
    return {"name": name, "source": source, "device": device, "dtype": dtype}


def _overrides(models: list[str] | None, host: str | None, port: int | None, device: str, dtype: str) -> dict[str, Any]:
    server = {name: value for name, value in (("host", host), ("port", port)) if value is not None}
    overrides: dict[str, Any] = {"server": server} if server else {}
    if models:
        overrides["models"] = [_model(text, device, dtype) for text in models]
        overrides["defaults"] = {"model": None}
    elif (device, dtype) != ("auto", "auto"):
        overrides["models"] = [_model(BUILTIN, device, dtype)]
    return overrides


def _announce(started: Started, as_json: bool) -> None:
    application = started.application
    cards = application.catalog.cards
    if as_json:
        models = [
            {"name": card.name, "family": card.family, "device": card.device, "dtype": card.dtype} for card in cards
        ]
        made = {} if started.admin_key is None else {"admin_key": started.admin_key.reveal()}
        print_json({"url": started.url, "models": models, "aliases": dict(application.catalog.aliases), **made})
        return
    console = Console(highlight=False, soft_wrap=True)
    served = ", ".join(map(_described, cards)) or "no models"
    console.print(f"Serving {served} at {started.url}", markup=False, style="bold")
    for card in cards:
        if card.notice:
            console.print(f"Note: {card.notice}", markup=False)
    console.print(f"Try it:\n{_curl(started)}", markup=False)
    if started.admin_key is not None:
        console.print("The key of /admin, shown this once (`rerankd keys rotate admin` makes another):")
        console.print(started.admin_key.reveal(), markup=False)


def _described(card: ModelCard) -> str:
    if card.family == CHANNEL:
        return f"{card.name} ({'channels' if ',' in card.source else 'channel'} {card.source})"
    return f"{card.name} ({card.family}, {card.device}, {card.dtype})"


def _curl(started: Started) -> str:
    variable = "RERANKD_API_KEY" if started.application.settings.api_key else "KEY"
    key = f' -H "Authorization: Bearer ${variable}"' if started.needs_key else ""
    return f"curl {started.url}/v1/rerank -H 'Content-Type: application/json'{key} -d '{json.dumps(EXAMPLE)}'"


@contextmanager
def _sparing_what_stays() -> Iterator[None]:
    """What is there when serving begins is there to the end. Looking through all of it for garbage again and again made one
    request in a hundred ten times slower.
    """
    before = gc.get_threshold()
    gc.collect()
    gc.freeze()
    gc.set_threshold(YOUNG, *before[1:])
    try:
        yield
    finally:
        gc.set_threshold(*before)
        gc.unfreeze()
