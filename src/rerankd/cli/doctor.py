"""`rerankd doctor`: what this machine, this installation and this configuration will do, and what keeps them from it."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import sys
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Annotated, Literal

import msgspec
import typer
from rich.console import Console

from rerankd import pipeline
from rerankd.app import served_models
from rerankd.cli.terminal import print_json
from rerankd.engine.inventory import inspect
from rerankd.engine.loading import has_engine
from rerankd.errors import RerankError, StoreUnavailable
from rerankd.server.keys import check_exposure, is_loopback
from rerankd.settings import DEFAULT_FILE, Settings, load_settings, variables
from rerankd.store.key_records import KeyState
from rerankd.types import LEXICAL
from rerankd.version import __version__

NO_KEYS = KeyState(version=0, made=False, usable=False, held={})
MARKS = {"ok": "[green]ok[/]  ", "note": "[yellow]note[/]", "bad": "[red]bad[/] "}


class Finding(msgspec.Struct, frozen=True):
    state: Literal["ok", "note", "bad"]
    what: str
    detail: str


def doctor(
    config: Annotated[Path | None, typer.Option(help="The configuration; ./rerankd.toml where there is one.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Say what rerankd finds here, and what is wrong; exit with 1 where something is."""
    findings = list(examine(config))
    if as_json:
        print_json(msgspec.to_builtins(findings))
    else:
        console = Console(highlight=False, soft_wrap=True)
        for finding in findings:
            console.print(f"{MARKS[finding.state]} {finding.what:<14} ", end="")
            console.print(finding.detail, markup=False)
    if any(finding.state == "bad" for finding in findings):
        raise typer.Exit(1)


def examine(config: Path | None) -> Iterator[Finding]:
    yield Finding("ok", "rerankd", f"{__version__}, Python {platform.python_version()} at {sys.executable}")
    yield _processor()
    yield _engine()
    try:
        settings = load_settings(config)
    except RerankError as error:
        yield Finding("bad", "configuration", error.message)
        return
    yield from _configuration(settings, config)
    for model in served_models(settings):
        entry = inspect(model.origin)
        where = str(entry.folder) if entry.folder else entry.reason
        known = bool(entry.folder) or entry.family == LEXICAL
        yield Finding("ok" if known else "note", "model", f"{model.name}: {entry.family or model.origin}, {where}")
    for way in pipeline.order():
        yield Finding("ok", "pipeline", way)


def _processor() -> Finding:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    if not has_engine():
        return Finding("ok", "processor", f"{cores} cores, {platform.machine()}")
    from rerankd.engine.devices import cpu_features, place

    placement = place()
    features = ", ".join(cpu_features()) or "no bfloat16"
    return Finding(
        "ok", "processor", f"{cores} cores, {features}: models run on {placement.device} in {placement.dtype_name}"
    )


def _engine() -> Finding:
    if not has_engine():
        return Finding("note", "engine", "not installed: only lexical models; pip install 'rerankd[engine]'")
    versions = (f"{name} {importlib.metadata.version(name)}" for name in ("torch", "transformers", "tokenizers"))
    return Finding("ok", "engine", ", ".join(versions))


def _configuration(settings: Settings, config: Path | None) -> Iterator[Finding]:
    file = config or Path(DEFAULT_FILE)
    used = str(file) if file.is_file() else "no file"
    from_environment = [name for name in variables() if name in os.environ]
    server = settings.server
    detail = f"{used}; {', '.join(from_environment) or 'no RERANKD_ variables'}; listens on {server.host}:{server.port}"
    yield Finding("ok", "configuration", detail)
    keys = yield from _database(settings)
    try:
        check_exposure(settings, keys is None or keys.usable)
    except RerankError as error:
        yield Finding("bad", "access", error.message)
        return
    open_to = "this machine alone" if is_loopback(settings.server.host) else "whoever reaches it"
    needed = settings.auth.mode != "off" and bool(settings.api_key or keys is None or keys.made)
    state = "a key is required" if needed else f"open to {open_to}"
    yield Finding("ok", "access", f"auth.mode {settings.auth.mode}: {state}")


def _database(settings: Settings) -> Generator[Finding, None, KeyState | None]:
    """What is known of the keys in it; None where it is away. It is looked at, and not made where it is not there."""
    from rerankd.store.database import Database, blocking
    from rerankd.store.keys import KeyStore

    pepper = None if settings.pepper is None else settings.pepper.get_secret_value()
    try:
        database = Database(settings.server.database.get_secret_value())
        state = blocking(KeyStore(database, pepper).state)
    except StoreUnavailable as error:
        yield Finding("bad", "database", error.message)
        return None
    except RerankError as error:
        yield Finding("bad", "database", error.message)
        return NO_KEYS
    there = "a key that ranks can be used" if state.usable else "no key that ranks"
    yield Finding("ok", "database", f"{database.shown}: {there if database.exists else 'made when the server starts'}")
    return state
