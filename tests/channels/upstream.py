"""Upstreams for tests: one of aiohttp.web that speaks a wire format, and one that says any bytes it is told to."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from aiohttp import web

from rerankd.channels.channel import Channel
from rerankd.channels.client import Client
from rerankd.channels.keys import KeyRing, Secret
from rerankd.channels.spec import ChannelSpec
from rerankd.dialects.base import Called, Dialect
from rerankd.dialects.directory import CALLED
from rerankd.errors import RerankError, Unauthenticated
from rerankd.types import Call, RerankRequest, RerankResponse, Result, Usage

KEY = Secret("sk-upstream-0123456789")
TOKENS = 11


@dataclass
class Heard:
    """What came in."""

    path: str
    headers: dict[str, str]
    body: bytes


Reply = Callable[[Heard], Awaitable[web.Response]]


@dataclass
class Upstream:
    url: str
    heard: list[Heard] = field(default_factory=list)


@asynccontextmanager
async def upstream(reply: Reply) -> AsyncIterator[Upstream]:
    """A server on a port of its own, which answers every path with `reply`."""
    here = Upstream("")

    async def handle(request: web.Request) -> web.Response:
        names = [name.lower() for name in request.headers]
        assert len(names) == len(set(names)), f"a header was sent twice: {names}"
        said = {name.lower(): value for name, value in request.headers.items()}
        here.heard.append(Heard(request.raw_path, said, await request.read()))
        return await reply(here.heard[-1])

    app = web.Application(client_max_size=2**26)
    app.router.add_route("*", "/{path:.*}", handle)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    here.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    try:
        yield here
    finally:
        await runner.cleanup()


@asynccontextmanager
async def saying(talk: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]) -> AsyncIterator[str]:
    """A server that reads a request's head and then does what `talk` does."""
    tasks: set[asyncio.Task[None]] = set()

    async def meet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        try:
            await reader.readuntil(b"\r\n\r\n")
            await talk(reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(meet, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def bytes_of(head: str, body: bytes = b"") -> Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(head.replace("\n", "\r\n").encode() + body)
        await writer.drain()

    return talk


def ranked(request: RerankRequest) -> RerankResponse:
    """Paris is the better document, and so is every other that says `good`."""
    results = [
        Result(index, 0.9 - index / 100 if "Paris" in one.text or "good" in one.text else 0.2 - index / 100)
        for index, one in enumerate(request.documents)
    ]
    results.sort(key=lambda result: -result.relevance_score)
    return RerankResponse(
        model="the upstream's own",
        results=tuple(results[: request.top_n]),
        usage=Usage(prompt_tokens=TOKENS * len(request.documents)),
    )


def speaking(dialect: Dialect, seen: list[RerankRequest] | None = None, *, key: Secret | None = None) -> Reply:
    """Answers as a server of that format does: on its own paths, to its own requests, and to the right key alone."""
    parts = [path.partition("{model}") for path in dialect.paths]

    async def reply(heard: Heard) -> web.Response:
        call = Call("of-the-upstream", created=1_700_000_000)
        if not any(heard.path.startswith(start) and heard.path.endswith(end) for start, _, end in parts):
            return web.Response(status=404, body=b'{"detail": "Not Found"}')
        shown = {heard.headers.get("authorization"), heard.headers.get("api-key")}
        try:
            if key is not None and not shown & {key.reveal(), f"Bearer {key.reveal()}"}:
                raise Unauthenticated(f"The key {shown} is wrong.")
            request = dialect.parse_request(heard.body)
        except RerankError as error:
            status, body = dialect.render_error(error, call.request_id)
            return web.Response(status=status, body=body)
        if seen is not None:
            seen.append(request)
        response = ranked(request)
        return web.Response(
            body=dialect.render_response(response, request, call),
            headers=dict(dialect.response_headers(response, request, call)),
            content_type="application/json",
        )

    return reply


def always(status: int, body: bytes = b"{}", headers: dict[str, str] | None = None) -> Reply:
    async def reply(heard: Heard) -> web.Response:
        return web.Response(status=status, body=body, headers=headers)

    return reply


def spec_for(url: str, dialect: str = "jina", **more: object) -> ChannelSpec:
    values: dict[str, object] = {"keys": (KEY,), "models": {"public": "their/own"}, "allow_private": True, **more}
    return ChannelSpec(name="the-channel", dialect=dialect, base_url=url, **values)  # type: ignore[arg-type]


def channel_to(
    url: str, client: Client, dialect: str = "jina", *, ring: KeyRing | None = None, **more: object
) -> Channel:
    codec: Called = CALLED[dialect]
    return Channel(spec_for(url, dialect, **more), client, codec, ring)
