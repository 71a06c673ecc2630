"""`rerankd serve`: models are loaded, a port is opened, and a line says what is served, where and how."""

from __future__ import annotations

import gc
import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from rerankd.app import Application
from rerankd.cli.terminal import loading_bars, print_json
from rerankd.dialects.fields import EXAMPLE
from rerankd.engine.sources import name_of_source
from rerankd.errors import BadSettings
from rerankd.settings import ModelSettings, Settings, load_settings
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
    from rerankd.server import serving
    from rerankd.server.http import create_app
    from rerankd.server.keys import check_exposure
    from rerankd.store.channels import ChannelStore

    settings = load_settings(config, _overrides(model, host, port, device, dtype))
    check_exposure(settings)
    secret_key = None if settings.secret_key is None else settings.secret_key.get_secret_value()
    _log_to_stderr()
    with serving.bind(settings.server) as listening:
        with loading_bars(quiet=as_json) as progress:
            application = Application(settings, progress, ChannelStore(settings.server.database, secret_key))
        with application:
            app = create_app(application)
            url = serving.url(listening)
            with _sparing_what_stays():
                serving.serve(app, listening, settings.server, lambda: _announce(application, url, as_json))


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


def _announce(application: Application, url: str, as_json: bool) -> None:
    cards = application.catalog.cards
    if as_json:
        models = [
            {"name": card.name, "family": card.family, "device": card.device, "dtype": card.dtype} for card in cards
        ]
        print_json({"url": url, "models": models, "aliases": dict(application.catalog.aliases)})
        return
    console = Console(highlight=False, soft_wrap=True)
    served = ", ".join(map(_described, cards)) or "no models"
    console.print(f"Serving {served} at {url}", markup=False, style="bold")
    for card in cards:
        if card.notice:
            console.print(f"Note: {card.notice}", markup=False)
    console.print(f"Try it:\n{_curl(application.settings, url)}", markup=False)


def _described(card: ModelCard) -> str:
    if card.family == CHANNEL:
        return f"{card.name} ({'channels' if ',' in card.source else 'channel'} {card.source})"
    return f"{card.name} ({card.family}, {card.device}, {card.dtype})"


def _curl(settings: Settings, url: str) -> str:
    key = ' -H "Authorization: Bearer $RERANKD_API_KEY"' if settings.api_key else ""
    return f"curl {url}/v1/rerank -H 'Content-Type: application/json'{key} -d '{json.dumps(EXAMPLE)}'"


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


def _log_to_stderr() -> None:
    # What no line shows need not be found out for each one.
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False
    logging._srcfile = None
    logging.basicConfig(format="%(asctime)s %(levelname)s %(name)s %(message)s", level=logging.INFO)
    for noisy in ("uvicorn", "httpx", "httpx2", "transformers", "asyncio"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)  # it warns of each retry, twice
