"""What one exchange does with its connection; what may come back is told in test_client and in tests/faults."""

from __future__ import annotations

import asyncio
import re
import socket

import pytest

from rerankd.channels.client import Answer, Client
from rerankd.channels.destination import LARGE
from rerankd.errors import UpstreamUnavailable
from tests.channels.upstream import always, saying, upstream

SOON = 5.0
OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}"


async def posted(
    client: Client, url: str, body: bytes = b"{}", headers: dict[str, str] | None = None, proxy: str | None = None
) -> Answer:
    return await client.post(url, body, headers or {}, timeout=SOON, proxy=proxy, allow_private=True)


def kept(client: Client) -> int:
    """How many connections wait for the next call."""
    return sum(map(len, client._connectors[True]._conns.values()))


@pytest.mark.parametrize("size", [0, 1, LARGE - 1, LARGE, LARGE + 1, 40 * LARGE])
async def test_a_body_of_any_size_arrives_and_its_connection_is_kept(client: Client, size: int) -> None:
    body = b"0123456789abcdef" * (size // 16) + b"x" * (size % 16)
    async with upstream(always(200)) as there:
        for _ in range(2):
            assert (await posted(client, there.url, body)).status == 200
            assert kept(client) == 1
    assert [heard.body == body for heard in there.heard] == [True, True]


@pytest.mark.parametrize("size", [LARGE - 1, 80 * LARGE])
async def test_after_an_answer_that_came_before_the_body_was_read_the_connection_is_not_kept(
    client: Client, size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is left of the body would stand before the next request."""

    async def hasty(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(OK)
        await asyncio.sleep(SOON)

    real = socket.socket

    def narrow(*args: int, **more: int) -> socket.socket:
        made = real(*args, **more)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        return made

    monkeypatch.setattr(socket, "socket", narrow)
    async with saying(hasty) as url:
        answer = await posted(client, url, b"x" * size)
        assert (answer.body, kept(client)) == (b"{}", 0)


async def test_others_have_their_turn_while_a_large_body_goes_out(client: Client) -> None:
    turns = 0

    async def other() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    async with upstream(always(200)) as there:
        work = asyncio.create_task(other())
        await posted(client, there.url, b"x" * (8 * LARGE))
        work.cancel()
    assert turns > 8


async def test_cancelling_while_a_large_body_goes_out_ends_that_too(client: Client) -> None:
    gone = asyncio.Event()

    async def never_reads(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(0.05)
        while await reader.read(2**20):
            pass
        gone.set()

    async with saying(never_reads) as url:
        before = asyncio.all_tasks()
        work = asyncio.create_task(posted(client, url, b"x" * 400 * LARGE))
        await asyncio.sleep(0.02)
        work.cancel()
        with pytest.raises(asyncio.CancelledError):
            await work
        await asyncio.wait_for(gone.wait(), SOON)
        left = [task for task in asyncio.all_tasks() - before if "_write_in_pieces" in repr(task)]
        assert left == []
    assert kept(client) == 0


async def test_a_connection_that_breaks_under_a_large_body_is_one_error(client: Client) -> None:
    async def leaving(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.transport.abort()

    async with saying(leaving) as url:
        with pytest.raises(UpstreamUnavailable):
            await posted(client, url, b"x" * 80 * LARGE)


@pytest.mark.parametrize("header", [("x", "a\r\nb: c"), ("x", "a\nb"), ("x", "\0"), ("x\r\ny", "a"), ("x\n", "a")])
async def test_what_would_end_a_header_is_never_sent(client: Client, header: tuple[str, str]) -> None:
    async with upstream(always(200)) as there:
        with pytest.raises(ValueError, match="injection"):
            await posted(client, there.url, headers=dict([header]))
        assert kept(client) == 0
    assert there.heard == []


async def test_a_callers_header_stands_in_the_place_of_ours_in_whatever_case(client: Client) -> None:
    async with upstream(always(200)) as there:
        await posted(client, there.url, headers={"ACCEPT": "text/plain", "User-agent": "other"})
        await posted(client, there.url)
    first, second = there.heard
    assert (first.headers["accept"], first.headers["user-agent"]) == ("text/plain", "other")
    assert second.headers["accept"] == "application/json"  # the next request knows nothing of it


async def test_answers_before_the_answer_are_passed_over(client: Client) -> None:
    async def hinting(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: </x>\r\n\r\n")
        await asyncio.sleep(0.01)
        writer.write(OK)
        await reader.read()

    async with saying(hinting) as url:
        answer = await posted(client, url)
        assert (answer.status, answer.body, kept(client)) == (200, b"{}", 1)


async def test_a_change_of_protocol_is_an_answer_and_the_end_of_the_connection(client: Client) -> None:
    async def changing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: upgrade\r\n\r\nrest")
        await reader.read()

    async with saying(changing) as url:
        answer = await posted(client, url)
        assert (answer.status, answer.body, kept(client)) == (101, b"", 0)


async def test_a_proxy_is_told_the_whole_url_and_its_own_password_each_time(client: Client) -> None:
    heads: list[bytes] = []

    async def proxy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(OK)
        while head := await reader.readuntil(b"\r\n\r\n"):
            heads.append(head)
            writer.write(OK)

    async with saying(proxy) as url:
        through = url.replace("http://", "http://user:pass@")
        for _ in range(3):
            await posted(client, "http://upstream.example:81/v1?a=b", proxy=through)
        assert kept(client) == 1
    for head in heads:
        assert re.search(rb"POST http://upstream.example:81/v1\?a=b HTTP/1.1\r\nHost: upstream.example:81\r\n", head)
        assert b"\r\nProxy-Authorization: Basic dXNlcjpwYXNz\r\n" in head
    assert len(heads) == 2  # the first one was read before there was anybody to write it down


async def test_an_upstream_behind_tls_is_reached_through_a_proxys_tunnel(client: Client) -> None:
    heads: list[bytes] = []

    async def proxy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heads.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(b"HTTP/1.1 407 No\r\ncontent-length: 0\r\n\r\n")
        writer.close()

    server = await asyncio.start_server(proxy, "127.0.0.1", 0)
    async with server:
        through = f"http://user:pass@127.0.0.1:{server.sockets[0].getsockname()[1]}"
        with pytest.raises(UpstreamUnavailable, match="proxy"):
            await posted(client, "https://upstream.example/v1", proxy=through, headers={"x-secret": "for the upstream"})
    (head,) = heads
    assert head.startswith(b"CONNECT upstream.example:443 HTTP/1.1\r\nHost: upstream.example\r\n")
    assert b"user-agent: rerankd/" in head
    assert b"Proxy-Authorization: Basic dXNlcjpwYXNz" in head
    assert b"x-secret" not in head
