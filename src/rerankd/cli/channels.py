"""`rerankd channels`: the upstreams of this server; how they do, whether one works, and which format a new one speaks."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Mapping
from http import HTTPStatus
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import quote

import aiohttp
import msgspec
import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from rerankd.app import channel_spec
from rerankd.channels.channel import Channel
from rerankd.channels.client import Client
from rerankd.channels.detect import Finding, detect
from rerankd.channels.keys import Secret
from rerankd.channels.probe import Verdict, judge
from rerankd.channels.spec import ChannelSpec
from rerankd.cli.terminal import print_json, printable
from rerankd.dialects.directory import CALLED
from rerankd.errors import BadSettings
from rerankd.settings import Settings, load_settings

PATIENCE = 5.0
LONG_PATIENCE = 120.0
STORED = "store"
NOT_ASKED = "not asked"
"""The status of a channel while no server runs that could say."""
WIDE = 10_000

Config = Annotated[Path | None, typer.Option(help="The configuration; ./rerankd.toml where there is one.")]
ServerUrl = Annotated[str | None, typer.Option(help="The running server; by default the one of the configuration.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]

app = typer.Typer(name="channels", help="The upstreams of this server.", no_args_is_help=True)


@app.callback()
def channels() -> None:
    """The upstreams of this server."""


@app.command("list")
def list_channels(
    config: Config = None,
    url: ServerUrl = None,
    as_json: AsJson = False,
) -> None:
    """The configured channels, and, where the server runs, those that were added to it, and how all do and why."""
    settings = load_settings(config)
    running = _running(Server(url, settings))
    rows = [row for channel in settings.channels for row in _rows(channel_spec(channel), running)]
    rows += [
        row for channel in (running or {}).values() if channel["origin"] == STORED for row in _stored_rows(channel)
    ]
    if as_json:
        print_json(rows)
        return
    if not rows:
        typer.echo("No channels are configured; `rerankd channels add NAME URL --model M --detect` says how one is.")
        return
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("channel", "dialect", "url", "model", "upstream's", "priority", "status", "why"):
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*(Text(printable(str(value))) for value in row.values()))
    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = WIDE
    console.print(table)
    if running is None:
        console.print("The server is not running, or does not take the key in RERANKD_ADMIN_KEY: no status.")


@app.command("test")
def try_channel(
    name: Annotated[str, typer.Argument(help="The channel's name.")], config: Config = None, as_json: AsJson = False
) -> None:
    """Rank two documents through a channel, and judge the answer; exit with 1 where it is no good."""
    settings = load_settings(config)
    found = next((channel for channel in settings.channels if channel.name == name), None)
    verdicts = _judged_by_the_server(name, settings) if found is None else asyncio.run(_judged(channel_spec(found)))
    if as_json:
        print_json({model: msgspec.to_builtins(verdict) for model, verdict in verdicts.items()})
    else:
        for model, verdict in verdicts.items():
            typer.echo(f"{'good' if verdict.good else 'bad '}  {model}: {printable(verdict.summary)}")
    if not all(verdict.good for verdict in verdicts.values()):
        raise typer.Exit(1)


@app.command("add")
def add_channel(
    name: Annotated[str, typer.Argument(help="What the channel is to be called.")],
    url: Annotated[str, typer.Argument(help="The upstream's base URL.")],
    model: Annotated[str, typer.Option(help="The upstream's name of a model, or PUBLIC=UPSTREAM.")],
    dialect: Annotated[str | None, typer.Option(help="The format that it speaks; see docs/dialects.md.")] = None,
    api_key_env: Annotated[str | None, typer.Option(help="The variable that holds its key.")] = None,
    find: Annotated[bool, typer.Option("--detect", help="Try the formats, and say which one it speaks.")] = False,
    allow_private: Annotated[bool, typer.Option("--allow-private", help="It is in a private network.")] = False,
    write: Annotated[Path | None, typer.Option(help="Append the channel to this configuration.")] = None,
    store: Annotated[
        bool, typer.Option("--store", help="Add it to the running server, at once and for good, with its key.")
    ] = False,
    server: ServerUrl = None,
    config: Config = None,
    as_json: AsJson = False,
) -> None:
    """Say how a channel is configured; with --store, add it; with --detect, find out which format the upstream speaks."""
    public, _, upstream = model.rpartition("=")
    findings: list[Finding] = []
    if find:
        findings = asyncio.run(_detected(url, api_key_env, upstream, allow_private=allow_private))
        dialect = next((finding.dialect for finding in findings if finding.speaks), None)
    if dialect is not None and dialect not in CALLED:
        raise BadSettings(f"There is no dialect {dialect!r}; known are {', '.join(sorted(CALLED))}.")
    toml = dialect and _toml(name, dialect, url, {public or upstream: upstream}, api_key_env, allow_private)
    if as_json:
        print_json({"dialect": dialect, "toml": toml, "evidence": msgspec.to_builtins(findings)})
    else:
        _show(findings, toml)
    if toml is None:
        raise typer.Exit(1)
    if write is not None:
        with write.open("a", encoding="utf-8") as file:
            file.write(f"\n{toml}")
    if store:
        body = {
            "name": name,
            "dialect": dialect,
            "base_url": url,
            "models": {public or upstream: upstream},
            "api_keys": [] if api_key_env is None else [_key(api_key_env)],
            "allow_private": allow_private,
        }
        Server(server, load_settings(config)).told("POST", "/channels", body)
        typer.echo(f"The server has the channel {printable(name)} now.", err=True)


@app.command("remove")
def remove_channel(
    name: Annotated[str, typer.Argument(help="The channel's name.")], server: ServerUrl = None, config: Config = None
) -> None:
    """Remove a channel that was added to the running server; those of the configuration are removed there."""
    Server(server, load_settings(config)).told("DELETE", f"/channels/{quote(name, safe='')}")


class Server:
    """The admin's side of a server that runs; by default of the one that is configured here."""

    def __init__(self, url: str | None, settings: Settings) -> None:
        self._url = url or f"http://{settings.server.host}:{settings.server.port}"
        key = os.environ.get("RERANKD_ADMIN_KEY") or (
            settings.admin_key.get_secret_value() if settings.admin_key else ""
        )
        self._headers = {"authorization": f"Bearer {key}"} if key else {}

    def told(self, method: str, path: str, body: object = None, patience: float = PATIENCE) -> Any:
        """What it answers. Raises `BadSettings` with what it says where it refuses, or where it is not there."""
        status, answer = self.asked(method, path, body, patience)
        if status is None:
            raise BadSettings(f"There is no server of rerankd at {self._url}; --server says where it is.")
        if status >= 400:
            raise BadSettings(str(answer.get("message")) if isinstance(answer, dict) else f"It answered {status}.")
        return answer

    def asked(self, method: str, path: str, body: object = None, patience: float = PATIENCE) -> tuple[int | None, Any]:
        """The status and the JSON of its answer; None where there was none."""
        return asyncio.run(self._asked(method, f"{self._url}/admin/api{path}", body, patience))

    async def _asked(self, method: str, url: str, body: object, patience: float) -> tuple[int | None, Any]:
        timeout = aiohttp.ClientTimeout(total=patience)
        try:
            async with (
                aiohttp.ClientSession(timeout=timeout, headers=self._headers) as session,
                session.request(method, url, json=body, allow_redirects=False) as answer,
            ):
                text = await answer.text()
                return answer.status, json.loads(text) if text else None
        except (aiohttp.ClientError, TimeoutError, ValueError):
            return None, None


def _running(server: Server) -> Mapping[str, Any] | None:
    """What the server says of its channels, by name; None where it cannot be asked."""
    status, answer = server.asked("GET", "/channels")
    try:
        return {channel["name"]: channel for channel in answer["channels"]} if status == HTTPStatus.OK else None
    except (KeyError, TypeError):
        return None


def _judged_by_the_server(name: str, settings: Settings) -> dict[str, Verdict]:
    """Of a channel that is not configured here. Raises `BadSettings` where the server does not have it either."""
    status, answer = Server(None, settings).asked("POST", f"/channels/{quote(name, safe='')}/test", None, LONG_PATIENCE)
    if status != HTTPStatus.OK:
        known = ", ".join(channel.name for channel in settings.channels) or "none"
        raise BadSettings(f"There is no channel {name!r}; there are: {known}.")
    return msgspec.convert(answer["models"], dict[str, Verdict])


def _rows(spec: ChannelSpec, running: Mapping[str, Any] | None) -> list[dict[str, Any]]:
    known = (running or {}).get(spec.name, {}).get("models", {})
    return [
        {
            "channel": spec.name,
            "dialect": spec.dialect,
            "base_url": spec.base_url,
            "model": model,
            "upstream": upstream,
            "priority": spec.priority,
            "status": known.get(model, {}).get("status", NOT_ASKED),
            "why": known.get(model, {}).get("last_error") or "",
        }
        for model, upstream in spec.models.items()
    ]


def _stored_rows(channel: Mapping[str, Any]) -> list[dict[str, Any]]:
    """As `_rows`, of what the server says."""
    return [
        {
            "channel": channel["name"],
            "dialect": channel["dialect"],
            "base_url": channel["base_url"],
            "model": model,
            "upstream": state["upstream"],
            "priority": channel["priority"],
            "status": state["status"],
            "why": state["last_error"] or "",
        }
        for model, state in channel["models"].items()
    ]


async def _judged(spec: ChannelSpec) -> dict[str, Verdict]:
    client = Client()
    try:
        channel = Channel(spec, client, CALLED[spec.dialect])
        return {model: await judge(channel, model) for model in spec.models}
    finally:
        await client.close()


async def _detected(url: str, variable: str | None, model: str, *, allow_private: bool) -> list[Finding]:
    key = Secret(_key(variable)) if variable is not None else None
    client = Client()
    try:
        return await detect(url, key, client, allow_private, model)
    finally:
        await client.close()


def _key(variable: str) -> str:
    if variable not in os.environ:
        raise BadSettings(f"The variable {variable} is not set.")
    return os.environ[variable].strip()


def _toml(
    name: str, dialect: str, url: str, models: Mapping[str, str], variable: str | None, allow_private: bool
) -> str:
    """JSON strings are TOML strings."""
    pairs = ", ".join(f"{json.dumps(public)} = {json.dumps(upstream)}" for public, upstream in models.items())
    lines = [
        "[[channels]]",
        f"name = {json.dumps(name)}",
        f"dialect = {json.dumps(dialect)}",
        f"base_url = {json.dumps(url)}",
    ]
    if variable is not None:
        lines.append(f"api_key_env = {json.dumps(variable)}")
    lines.append(f"models = {{ {pairs} }}")
    if allow_private:
        lines.append("allow_private = true")
    return "\n".join(lines) + "\n"


def _show(findings: list[Finding], toml: str | None) -> None:
    for finding in findings:
        typer.echo(f"{'yes' if finding.speaks else 'no ':<4} {finding.dialect:<22} {printable(finding.evidence)}")
    if findings:
        typer.echo()
    typer.echo(toml or "It speaks no format that is known here, or needs another model, key or path.", nl=False)
