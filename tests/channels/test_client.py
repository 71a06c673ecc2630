from __future__ import annotations

import asyncio
import gzip
import os
import socket
import struct
import tracemalloc
import zlib
from time import monotonic

import pytest
from aiohttp import web

from rerankd.channels import unpacking
from rerankd.channels.client import Answer, Client
from rerankd.channels.guard import GuardedResolver
from rerankd.channels.unpacking import MAX_ANSWER, STEP
from rerankd.errors import BadSettings, UpstreamMalformed, UpstreamUnavailable
from tests.channels.test_guard import Flipping
from tests.channels.upstream import Heard, always, bytes_of, saying, upstream

SOON = 5.0
OK = "HTTP/1.1 200 OK\ncontent-type: application/json\n"


async def posted(client: Client, url: str, seconds: float = SOON, body: bytes = b"{}") -> Answer:
    return await client.post(url, body, {"x-one": "1"}, timeout=seconds, proxy=None, allow_private=True)


async def test_what_is_sent_arrives_and_what_is_said_comes_back(client: Client) -> None:
    async with upstream(always(418, b"tea", {"X-Big-Name": "yes"})) as there:
        answer = await posted(client, f"{there.url}/a/b", body=b"x" * 2_000_000)
    assert (answer.status, answer.body, answer.headers["x-big-name"]) == (418, b"tea", "yes")
    (heard,) = there.heard
    assert heard.path == "/a/b"
    assert heard.body == b"x" * 2_000_000
    assert heard.headers["x-one"] == "1"
    assert heard.headers["content-type"] == "application/json"
    assert heard.headers["accept-encoding"] == "gzip, identity"
    assert heard.headers["user-agent"].startswith("rerankd/")


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_a_redirect_is_an_answer_and_not_followed(client: Client, status: int) -> None:
    async with (
        upstream(always(200)) as elsewhere,
        upstream(always(status, headers={"location": elsewhere.url})) as there,
    ):
        answer = await posted(client, there.url)
    assert answer.status == status
    assert len(there.heard) == 1
    assert elsewhere.heard == []


async def test_no_cookie_is_kept() -> None:
    async with upstream(always(200, headers={"set-cookie": "session=1; Path=/"})) as there:
        client = Client(Flipping(["127.0.0.1"], ["127.0.0.1"]))
        for _ in range(2):
            await posted(client, f"http://a-name.example:{there.url.rpartition(':')[2]}/")  # an address has none anyway
        await client.close()
    assert len(there.heard) == 2
    assert all("cookie" not in heard.headers for heard in there.heard)


async def test_no_proxy_is_taken_from_the_environment(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    async with upstream(always(200, b"direct")) as there, upstream(always(200, b"proxy")) as proxy:
        for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
            monkeypatch.setenv(name, proxy.url)
        assert (await posted(client, there.url)).body == b"direct"


async def test_the_proxy_that_was_given_is_used(client: Client) -> None:
    async with upstream(always(200, b"proxy")) as proxy:
        answer = await client.post(
            "http://upstream.example/v1", b"{}", {}, timeout=SOON, proxy=proxy.url, allow_private=True
        )
    assert answer.body == b"proxy"
    assert proxy.heard[0].headers["host"] == "upstream.example"


async def test_a_proxy_in_a_private_network_must_be_allowed_too(client: Client) -> None:
    async with upstream(always(200)) as proxy:
        with pytest.raises(BadSettings):
            await client.post("http://8.8.8.8/", b"{}", {}, timeout=SOON, proxy=proxy.url, allow_private=False)
    assert proxy.heard == []


async def test_a_proxy_that_says_no_is_an_upstream_that_cannot_be_reached(client: Client) -> None:
    async with upstream(always(407)) as proxy:
        with pytest.raises(UpstreamUnavailable):
            await client.post("https://8.8.8.8/", b"{}", {}, timeout=SOON, proxy=proxy.url, allow_private=True)


async def test_gzip_is_unpacked_of_several_members_too(client: Client) -> None:
    packed = gzip.compress(b'{"a":') + gzip.compress(b" 1}")
    async with upstream(always(200, packed, {"content-encoding": "gzip"})) as there:
        assert (await posted(client, there.url)).body == b'{"a": 1}'


@pytest.mark.parametrize("encoding", ["br", "zstd", "deflate", "gzip, gzip", "compress"])
async def test_a_packing_that_was_not_asked_for_is_refused(client: Client, encoding: str) -> None:
    async with saying(bytes_of(f"{OK}content-encoding: {encoding}\ncontent-length: 2\n\n", b"{}")) as url:
        with pytest.raises(UpstreamMalformed):
            await posted(client, url)


async def test_of_two_packings_the_first_counts(client: Client) -> None:
    head = f"{OK}content-encoding: br\ncontent-encoding: identity\ncontent-length: 2\n\n"
    async with saying(bytes_of(head, b"{}")) as url:
        with pytest.raises(UpstreamMalformed, match="packed"):
            await posted(client, url)


@pytest.mark.parametrize("body", [b"no gzip", gzip.compress(os.urandom(5000))[:2000], b""])
async def test_gzip_that_is_broken_is_no_answer(client: Client, body: bytes) -> None:
    head = f"{OK}content-encoding: gzip\ncontent-length: {len(body)}\n\n"
    async with saying(bytes_of(head, body)) as url:
        with pytest.raises(UpstreamMalformed):
            await posted(client, url)


@pytest.mark.parametrize("size", [0, 1, STEP - 1, STEP, STEP + 1, 3 * STEP, 3 * STEP + 100])
async def test_gzip_is_unpacked_to_the_last_byte(client: Client, size: int) -> None:
    whole = (b"0123456789" * (size // 10 + 1))[:size]
    async with upstream(always(200, gzip.compress(whole), {"content-encoding": "gzip"})) as there:
        assert (await posted(client, there.url)).body == whole


async def test_a_gzip_bomb_is_cut_before_it_takes_memory(client: Client) -> None:
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    bomb = b"".join([*(packer.compress(bytes(2**20)) for _ in range(256)), packer.flush()])
    async with upstream(always(200, bomb, {"content-encoding": "gzip"})) as there:
        tracemalloc.start()
        try:
            with pytest.raises(UpstreamMalformed, match="larger"):
                await posted(client, there.url)
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
    assert peak < MAX_ANSWER + 4 * 2**20


async def test_gzip_without_end_that_unpacks_to_nothing_is_cut(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unpacking, "MAX_ANSWER", 10_000)
    body = gzip.compress(b"") * 1000
    async with upstream(always(200, body, {"content-encoding": "gzip"})) as there:
        with pytest.raises(UpstreamMalformed, match="larger"):
            await posted(client, there.url)


@pytest.mark.parametrize("head", ["content-length: 5000000000\n", "transfer-encoding: chunked\n", ""])
async def test_an_answer_without_end_is_cut_and_the_connection_with_it(client: Client, head: str) -> None:
    sent = 0
    over = asyncio.Event()

    async def endless(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        piece = b"10000\r\n" + b" " * 65536 + b"\r\n" if "chunked" in head else b" " * 65536
        writer.write(f"{OK}{head}\n".replace("\n", "\r\n").encode())
        try:
            while sent < 10 * MAX_ANSWER:
                writer.write(piece)
                await writer.drain()
                sent += len(piece)
        finally:
            over.set()

    async with saying(endless) as url:
        with pytest.raises(UpstreamMalformed, match="larger"):
            await posted(client, url)
        await asyncio.wait_for(over.wait(), SOON)
    assert sent < 3 * MAX_ANSWER  # what was under way in the system's own buffers is more than the limit


async def test_an_answer_of_just_the_limit_is_whole(client: Client) -> None:
    async with upstream(always(200, b" " * MAX_ANSWER)) as there:
        assert len((await posted(client, there.url)).body) == MAX_ANSWER


@pytest.mark.parametrize("head", ["", "HTTP/1.1 200 OK\n", OK + "content-length: 1000\n\n"])
async def test_a_trickle_ends_at_the_timeout(client: Client, head: str) -> None:
    async def trickle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(head.replace("\n", "\r\n").encode())
        while True:
            writer.write(b"x" if head.endswith("\n\n") else b"")
            await writer.drain()
            await asyncio.sleep(0.01)

    async with saying(trickle) as url:
        started = monotonic()
        with pytest.raises(UpstreamUnavailable, match="in time"):
            await posted(client, url, 0.1)
    assert monotonic() - started < 0.3


async def test_a_name_that_takes_too_long_to_resolve_ends_at_the_timeout() -> None:
    class Slow(Flipping):
        async def resolve(self, *_: object, **__: object) -> list[object]:  # type: ignore[override]
            await asyncio.sleep(5)
            return []

    client = Client(Slow())
    with pytest.raises(UpstreamUnavailable, match="in time"):
        await client.post("http://slow.example/", b"{}", {}, timeout=0.05)
    await client.close()


async def test_a_refused_connection_is_an_upstream_that_cannot_be_reached(client: Client) -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        with pytest.raises(UpstreamUnavailable, match="could not be reached"):
            await posted(client, f"http://127.0.0.1:{nobody.getsockname()[1]}/")


async def test_a_name_that_nobody_knows_is_an_upstream_that_cannot_be_reached() -> None:
    class Unknown(Flipping):
        async def resolve(self, *_: object, **__: object) -> list[object]:  # type: ignore[override]
            raise socket.gaierror(-2, "Name or service not known")

    client = Client(Unknown())
    with pytest.raises(UpstreamUnavailable, match="could not be reached"):
        await client.post("http://nobody.example/", b"{}", {}, timeout=SOON)
    await client.close()


@pytest.mark.parametrize(
    "head", ["", "HTTP/1.1 2", OK + "content-length: 1000\n\n{", OK + "transfer-encoding: chunked\n\n5\n{"]
)
@pytest.mark.parametrize("reset", [True, False])
async def test_a_connection_that_breaks_is_an_upstream_that_is_not_available(
    client: Client, head: str, reset: bool
) -> None:
    async def breaking(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await bytes_of(head)(reader, writer)
        if reset:
            await asyncio.sleep(0.01)
            writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    async with saying(breaking) as url:
        with pytest.raises(UpstreamUnavailable):
            await posted(client, url)


@pytest.mark.parametrize(
    "said",
    [
        "SSH-2.0-OpenSSH_9.6\n",
        "HTTP/1.1 abc OK\n\n",
        "HTTP/1.1 200 OK\nx: " + "y" * 20_000 + "\n\n",
        "\x16\x03\x01\n\n",
    ],
)
async def test_what_is_not_http_is_malformed(client: Client, said: str) -> None:
    async with saying(bytes_of(said)) as url:
        with pytest.raises(UpstreamMalformed, match="not HTTP"):
            await posted(client, url)


async def test_a_server_without_tls_is_no_secure_connection(client: Client) -> None:
    async def plain(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        writer.close()

    server = await asyncio.start_server(plain, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        with pytest.raises(UpstreamUnavailable):
            await posted(client, f"https://127.0.0.1:{port}/")


async def test_a_name_that_turns_to_a_private_address_is_not_connected_to() -> None:
    async with upstream(always(200)) as there:
        port = there.url.rpartition(":")[2]
        client = Client(Flipping(["127.0.0.1"]))
        with pytest.raises(UpstreamUnavailable, match="refused"):
            await client.post(f"http://rebinding.example:{port}/", b"{}", {}, timeout=SOON)
        await client.close()
    assert there.heard == []


async def test_what_was_judged_is_what_is_connected_to() -> None:
    """The name is asked for once: no second look could find another address."""
    async with upstream(always(200, b"yes")) as there:
        port = there.url.rpartition(":")[2]
        flipping = Flipping(["127.0.0.1"], ["169.254.169.254"])
        client = Client(flipping)
        answer = await client.post(f"http://inside.example:{port}/", b"{}", {}, timeout=SOON, allow_private=True)
        await client.close()
    assert answer.body == b"yes"
    assert flipping.answers == [["169.254.169.254"]]
    assert there.heard[0].headers["host"] == f"inside.example:{port}"


async def test_the_socket_itself_looks_at_the_address_once_more(monkeypatch: pytest.MonkeyPatch) -> None:
    async def trusting(self: object, host: str, port: int = 0, family: int = 0) -> list[object]:
        return await Flipping(["127.0.0.1"]).resolve(host, port)  # type: ignore[return-value]

    async with upstream(always(200)) as there:
        monkeypatch.setattr(GuardedResolver, "resolve", trusting)
        client = Client()
        with pytest.raises(UpstreamUnavailable):
            await client.post(f"http://a.example:{there.url.rpartition(':')[2]}/", b"{}", {}, timeout=SOON)
        await client.close()
    assert there.heard == []


async def test_connections_are_kept(client: Client) -> None:
    ports: list[object] = []

    async def reply(heard: Heard) -> web.Response:
        return web.Response(body=b"{}")

    async with upstream(reply) as there:
        for _ in range(3):
            await posted(client, there.url)
        ports = [connection for kept in client._connectors[True]._conns.values() for connection in kept]
    assert len(ports) == 1


@pytest.mark.parametrize("unasked", [b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nwrong", b"?", b"close"])
async def test_what_is_said_unasked_on_a_kept_connection_answers_nothing(client: Client, unasked: bytes) -> None:
    connections = 0

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        await reader.readexactly(2)
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nright")
        await writer.drain()
        if connections == 1:
            await asyncio.sleep(0.005)
            if unasked == b"close":
                return
            writer.write(unasked)
        await reader.read()

    async with saying(talk) as url:
        for _ in range(2):
            assert (await posted(client, url)).body == b"right"
            await asyncio.sleep(0.02)
    assert connections == 2


async def test_cancelling_ends_the_call_and_its_connection(client: Client) -> None:
    ended = asyncio.Event()

    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()  # until the client goes away
        ended.set()

    async with saying(silent) as url:
        work = asyncio.create_task(posted(client, url))
        await asyncio.sleep(0.02)
        work.cancel()
        with pytest.raises(asyncio.CancelledError):
            await work
        await asyncio.wait_for(ended.wait(), SOON)


def test_a_client_is_made_anywhere_and_closed_or_dropped_anywhere() -> None:
    client = Client()

    async def used() -> None:
        async with upstream(always(200)) as there:
            await posted(client, there.url)

    asyncio.run(used())
    client.drop()
    client.drop()
    asyncio.run(used())  # in another loop, with connections of its own
    client.drop()
    asyncio.run(client.close())


async def test_no_error_and_no_log_says_where_or_with_what(client: Client, caplog: pytest.LogCaptureFixture) -> None:
    secret = "sk-canary-0123456789"
    caplog.set_level("DEBUG", "rerankd")
    said = []
    async with upstream(always(200, b"x" * (MAX_ANSWER + 1))) as large, saying(bytes_of("nonsense\n\n")) as broken:
        for url in (f"{large.url}/{secret}", f"{broken}/{secret}", f"http://127.0.0.1:1/{secret}"):
            with pytest.raises((UpstreamUnavailable, UpstreamMalformed)) as caught:
                await client.post(
                    url, b"{}", {"authorization": f"Bearer {secret}"}, timeout=SOON, proxy=None, allow_private=True
                )
            assert caught.value.__context__ is None
            said.append(str(caught.value))
    assert secret not in "".join(said) + caplog.text
    assert "127.0.0.1" not in "".join(said)
