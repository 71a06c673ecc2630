"""No secret and no text of a caller leaves by a side door: canaries in every secret field, in queries and documents, and a
search of all that the server says and keeps: its log at its loudest, metrics, errors, pages, answers to the admin, traces,
and every byte of its files.
"""

from __future__ import annotations

import json
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from httpx2 import ASGITransport, AsyncClient, Response
from starlette.types import ASGIApp

from rerankd.app import Application
from rerankd.cli.books import Shelf
from rerankd.server.http import create_app
from rerankd.server.log_lines import Style
from rerankd.settings import Settings
from tests.channels.upstream import Heard, upstream
from tests.server.collector import collecting
from tests.server.logged import logged

TEXT = "canary-text"
SECRETS = {
    name: f"canary-secret-{name}-0123456789abcdef0123"
    for name in (
        "api",
        "admin",
        "seal",
        "pepper",
        "channel",
        "header",
        "proxy",
        "stored_channel",
        "stored_header",
        "stored_proxy",
        "database",
        "redis",
        "collector",
        "wrong",
    )
}
GOOD = {
    "query": f"{TEXT} query",
    "documents": [f"{TEXT} one", {"text": f"{TEXT} two", "title": TEXT}],
    "return_documents": False,
}
PATHS = ("/rerank", "/v1/rerank", "/v2/rerank", "/cohere/v1/rerank", "/voyage/v1/rerank", "/vllm/v1/rerank", "/nope")
BROKEN: list[bytes] = [
    json.dumps({**GOOD, "model": "not-served"}).encode(),
    json.dumps({**GOOD, "documents": [{"text": {"deep": TEXT}}]}).encode(),
    json.dumps({**GOOD, "query": [TEXT]}).encode(),
    json.dumps({**GOOD, "top_n": TEXT}).encode(),
    json.dumps({**GOOD, TEXT: TEXT}).encode(),
    json.dumps({**GOOD, "query": f"{TEXT} \ud800"}).encode(),
    json.dumps(GOOD).encode()[:-9],
    f'{{"query": "{TEXT}'.encode(),
    b"\xff" + TEXT.encode(),
]


async def indiscreet(heard: Heard) -> web.Response:
    """An upstream that fails and says all that it knows, in its body and its headers."""
    said = {"message": f"{heard.headers} {heard.body.decode()}", "detail": heard.body.decode()}
    status = (500, 400, 401, 429, 200)[len(heard.body) % 5]
    return web.json_response(
        said, status=status, headers={"retry-after": "0", "x-said": heard.headers.get("x-own", "")}
    )


@dataclass
class Kept:
    """A folder with all that a server keeps; `made` are the keys that it made."""

    folder: Path
    away: bool
    made: dict[str, str] = field(default_factory=dict)

    @property
    def database(self) -> str:
        if self.away:
            return f"postgresql://somebody:{SECRETS['database']}@127.0.0.1:1/none"
        return f"sqlite:///{self.folder / 'rerankd.db'}"

    @property
    def files(self) -> dict[str, bytes]:
        return {
            str(file.relative_to(self.folder)): file.read_bytes() for file in self.folder.rglob("*") if file.is_file()
        }

    def found(self, where: bytes | str) -> list[str]:
        text = where.decode("latin-1") if isinstance(where, bytes) else where
        return [canary for canary in (TEXT, *SECRETS.values(), *self.made.values()) if canary in text]


def settings_for(kept: Kept, url: str, collector: str) -> Settings:
    """The channel's key is in the environment."""
    channel = {
        "dialect": "jina",
        "base_url": url,
        "api_key_env": "THE_CHANNELS_KEY",
        "headers": {"x-own": SECRETS["header"]},
        "allow_private": True,
    }
    return Settings.parse(
        {
            "api_key": SECRETS["api"],
            "admin_key": SECRETS["admin"],
            "secret_key": SECRETS["seal"],
            "pepper": SECRETS["pepper"],
            "server": {
                "port": 0,
                "database": kept.database,
                "spool": str(kept.folder / "spool"),
                "redis": f"redis://somebody:{SECRETS['redis']}@127.0.0.1:1/0",
                "strict": ["/v2/rerank"],
            },
            "models": [{"name": "lexical"}],
            "channels": [
                {"name": "indiscreet", "models": {"far": "theirs"}, **channel},
                {
                    "name": "through-a-proxy",
                    "models": {"proxied": "theirs"},
                    "proxy": f"http://somebody:{SECRETS['proxy']}@127.0.0.1:1",
                    **channel,
                },
            ],
            "telemetry": {"otlp_endpoint": collector.replace("://", f"://somebody:{SECRETS['collector']}@")},
        }
    )


@asynccontextmanager
async def serving(settings: Settings) -> AsyncIterator[ASGIApp]:
    with Application(settings, books=Shelf(settings).books()) as application:
        app = create_app(application)
        async with app.router.lifespan_context(app):
            yield app
        await application.client.close()


@asynccontextmanager
async def caller(app: ASGIApp, key: str | None) -> AsyncIterator[AsyncClient]:
    headers = {} if key is None else {"authorization": f"Bearer {key}"}
    transport = ASGITransport(app, raise_app_exceptions=False)
    async with AsyncClient(transport=transport, base_url="http://localhost", headers=headers) as client:
        yield client


async def asked(app: ASGIApp, kept: Kept) -> list[Response]:
    """Good, bad, failing, repeated and refused requests of callers."""
    answers = []
    async with caller(app, SECRETS["api"]) as client:
        for path in PATHS:
            for model in ("lexical", "far", "proxied"):
                answers.append(await client.post(path, json={**GOOD, "model": model}))
            answers += [await client.post(path, content=body) for body in BROKEN]
        for extra in range(5):  # for each way in which the upstream fails
            answers.append(await client.post("/v1/rerank", json={**GOOD, "model": "far", "query": TEXT + "x" * extra}))
        answers.append(await client.get("/admin/api/channels"))
    for key in (None, SECRETS["wrong"], SECRETS["admin"]):
        async with caller(app, key) as client:
            answers += [await client.post(path, json=GOOD) for path in PATHS]
            answers.append(await client.get("/metrics"))
    for key in kept.made.values():
        async with caller(app, key) as client:
            answers += await repeated(client)
    return answers


async def repeated(client: AsyncClient) -> list[Response]:
    """Under an Idempotency-Key: done, given again, and something else; and beyond what the key may."""
    answers = []
    for model in ("lexical", "far", "kept", "not-served"):
        for body in (GOOD, GOOD, {**GOOD, "query": f"another {TEXT}"}):
            named = {"idempotency-key": f"for-{model}"}
            answers.append(await client.post("/v1/rerank", json={**body, "model": model}, headers=named))
    return answers


async def administered(app: ASGIApp, kept: Kept, url: str) -> list[Response]:
    """Keys and a channel are made and changed; the keys that come back are canaries from then on, and good at the end."""
    channel = {
        "dialect": "jina",
        "base_url": url,
        "models": {"kept": "theirs"},
        "api_keys": [SECRETS["stored_channel"]],
        "headers": {"x-own": SECRETS["stored_header"]},
        "allow_private": True,
    }
    proxied = {**channel, "models": {"kept-far": "theirs"}, "proxy": f"http://u:{SECRETS['stored_proxy']}@127.0.0.1:1"}
    answers = []
    async with caller(app, SECRETS["admin"]) as client:

        async def done(method: str, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
            answer = await client.request(method, f"/admin/api{path}", json=body)
            said: dict[str, Any] = answer.json()
            assert answer.is_success is not kept.away, (path, answer.text)
            if "key" in said:  # the one answer that has it
                kept.made[f"{said['name']} {len(kept.made)}"] = said["key"]
            else:
                answers.append(answer)
            return said

        for scope in ("rank", "admin"):
            await done("POST", "/keys", {"name": f"of-{scope}", "scope": scope})
        await done("POST", "/keys/of-rank/rotate", {})
        await done("PATCH", "/keys/of-rank", {"limits": {"requests": 10}, "strict": True})
        await done("POST", "/channels", {"name": "kept", **channel})
        await done("POST", "/channels", {"name": "kept-proxied", **proxied})
        await done("PUT", "/channels/kept", {**channel, "priority": 3})
        answers.append(await client.post("/admin/api/channels", json={"name": "twice", **proxied, "models": TEXT}))
        answers.append(await client.post("/admin/api/channels", json={"name": "x", "keys": [SECRETS["channel"]]}))
    return answers


async def looked_at(app: ASGIApp, kept: Kept) -> list[Response]:
    """All that the admin and the public can read; at the end what was made is revoked."""
    answers = []
    async with caller(app, SECRETS["admin"]) as client:
        described = await client.get("/openapi.json")
        paths = [path for path, methods in described.json()["paths"].items() if "get" in methods and "{" not in path]
        answers += [described, *[await client.get(path) for path in ("/docs", *paths)]]
        for name in ("indiscreet", "through-a-proxy", "kept", "kept-proxied"):
            answers.append(await client.post(f"/admin/api/channels/{name}/test"))
        answers.append(await client.get("/admin/api/usage?by=day,key,model,channel&format=csv"))
        for name in ("of-rank", "of-admin"):
            answers.append(await client.get(f"/admin/api/keys/{name}"))
            answers.append(await client.delete(f"/admin/api/keys/{name}"))
        answers.append(await client.get("/admin/api/audit"))
    assert "/metrics" in paths
    assert "/admin/api/settings" in paths
    assert [answer.status_code for answer in answers if answer.request.url.path == "/admin/api/settings"] == [200]
    return answers


@pytest.mark.parametrize(
    ("style", "level", "away"),
    [
        ("text", logging.INFO, False),
        ("json", logging.INFO, False),
        ("text", logging.DEBUG, False),
        ("json", logging.DEBUG, False),
        ("text", logging.DEBUG, True),
    ],
)
async def test_no_canary_is_in_anything_that_the_server_says_or_keeps(
    style: Style, level: int, away: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("THE_CHANNELS_KEY", SECRETS["channel"])
    kept = Kept(tmp_path, away)
    with collecting() as collector, logged(style, level) as caught:
        async with upstream(indiscreet) as remote:
            settings = settings_for(kept, remote.url, collector.url)
            async with serving(settings) as app:
                answers = await administered(app, kept, remote.url)
                answers += [*await asked(app, kept), *await looked_at(app, kept)]
                files = kept.files  # with what is not yet in the file itself
        log, traces = caught.text, b"".join(collector.bodies)
    heard = b"".join(f"{each.headers}".encode() + each.body for each in remote.heard)
    assert set(kept.found(heard)) >= {TEXT, SECRETS["channel"], SECRETS["header"]}  # the canaries were really there
    assert away or {SECRETS["stored_channel"], SECRETS["stored_header"]} <= set(kept.found(heard))
    statuses = {answer.status_code for answer in answers}
    assert {200, 400, 401, 404, 422} | (set() if away else {403, 429}) <= statuses
    assert statuses & {500, 502, 503}
    assert log.count("rerankd.access") >= len(answers)
    assert len(traces) > 10_000
    for answer in answers:
        ranked = answer.status_code == 200 and answer.request.url.path in PATHS  # some formats always say the documents
        assert set(kept.found(answer.content)) <= ({TEXT} if ranked else set()), answer.request.url.path
        assert not kept.found(str(answer.headers))
    assert not kept.found(log)
    assert not kept.found(traces)
    assert not kept.found(repr(settings) + str(settings))
    files |= {f"{name} at the end": content for name, content in kept.files.items()}
    assert any(b"lexical" in content for content in files.values())
    assert any(b"for-lexical" in content for content in files.values()) is not away
    assert {name: kept.found(content) for name, content in files.items() if kept.found(content)} == {}
