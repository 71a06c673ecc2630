"""What an application's messages become on the wire, and what it is told when they make no answer."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from starlette.types import Message, Receive, Scope, Send
from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.server import ServerState

from rerankd.server.exchange import Exchange

LENGTH = (b"content-length", b"3")
DATE = (b"date", b"today")


class Wire(asyncio.Transport):
    def __init__(self) -> None:
        super().__init__()
        self.written = b""
        self.writes = 0

    def write(self, data: Any) -> None:
        self.written += data
        self.writes += 1

    def is_closing(self) -> bool:
        return False


class Connection:
    def __init__(self) -> None:
        self.wire = Wire()
        self.transport: asyncio.Transport = self.wire
        self.flow = FlowControl(self.transport)
        self.server_state = ServerState()
        self.server_state.default_headers = [DATE]
        self.closed = False
        self.answered = 0

    def close_gently(self) -> None:
        self.closed = True

    def on_response_complete(self) -> None:
        self.answered += 1


def start(*headers: tuple[bytes, bytes], status: int = 200) -> Message:
    return {"type": "http.response.start", "status": status, "headers": headers}


def body(content: bytes, more: bool = False) -> Message:
    return {"type": "http.response.body", "body": content, "more_body": more}


async def after(*messages: Message, method: str = "POST", keep_alive: bool = True) -> Connection:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        for message in messages:
            await send(message)

    connection = Connection()
    await Exchange(connection, {"method": method}, keep_alive, False).run(app)
    return connection


async def test_an_answer_that_comes_at_once_leaves_in_one_piece() -> None:
    connection = await after(start(LENGTH), body(b"abc"))
    assert connection.wire.written == b"HTTP/1.1 200 OK\r\ndate: today\r\ncontent-length: 3\r\n\r\nabc"
    assert (connection.wire.writes, connection.answered, connection.closed) == (1, 1, False)


async def test_an_answer_without_a_length_comes_in_chunks() -> None:
    connection = await after(start(), body(b"abc", more=True), body(b"", more=True), body(b"de"))
    head, _, chunks = connection.wire.written.partition(b"\r\n\r\n")
    assert head.endswith(b"transfer-encoding: chunked")
    assert chunks == b"3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n"


@pytest.mark.parametrize(("method", "status"), [("HEAD", 200), ("GET", 204), ("GET", 304)])
async def test_an_answer_that_can_have_no_body_has_none(method: str, status: int) -> None:
    connection = await after(start(status=status), body(b""), method=method)
    assert connection.wire.written.endswith(b"date: today\r\n\r\n")
    assert connection.answered == 1


async def test_the_answer_to_head_tells_the_length_of_what_it_leaves_out() -> None:
    connection = await after(start(LENGTH), body(b"abc"), method="HEAD")
    assert connection.wire.written.endswith(b"content-length: 3\r\n\r\n")


@pytest.mark.parametrize("said", [(), ((b"connection", b"Close"),)], ids=["the client's", "the application's"])
async def test_a_connection_that_is_not_kept_says_so(said: tuple[tuple[bytes, bytes], ...]) -> None:
    connection = await after(start(LENGTH, *said), body(b"abc"), keep_alive=bool(said))
    assert connection.wire.written.lower().count(b"connection: close") == 1
    assert connection.closed


@pytest.mark.parametrize("wrong", [b"a\r\nset-cookie: b", b"a\nb", b"a\rb", b"a\0b"])
@pytest.mark.parametrize("name_too", [False, True], ids=["value", "name"])
async def test_no_header_begins_another_line(wrong: bytes, name_too: bool) -> None:
    connection = await after(start(LENGTH, (wrong if name_too else b"x", wrong)), body(b"abc"))
    assert wrong not in connection.wire.written
    assert connection.closed


@pytest.mark.parametrize("content", [b"ab", b"abcd"], ids=["shorter", "longer"])
async def test_a_body_of_another_length_ends_the_connection(content: bytes) -> None:
    connection = await after(start(LENGTH), body(content))
    assert (connection.closed, connection.answered) == (True, 0)


@pytest.mark.parametrize("messages", [(), (body(b"abc"),)], ids=["nothing", "no head"])
async def test_where_there_is_no_answer_the_client_is_told_of_a_failure(messages: tuple[Message, ...]) -> None:
    connection = await after(*messages)
    assert connection.wire.written.startswith(b"HTTP/1.1 500 Internal Server Error\r\n")
    assert connection.closed


async def test_an_answer_that_has_no_end_ends_the_connection() -> None:
    connection = await after(start(LENGTH))
    assert (connection.closed, connection.answered) == (True, 0)


async def test_more_than_an_answer_spoils_nothing_that_was_said() -> None:
    connection = await after(start(LENGTH), body(b"abc"), body(b"abc"))
    assert connection.wire.written.endswith(b"\r\n\r\nabc")


async def test_a_body_is_received_as_it_comes_and_then_only_the_end() -> None:
    exchange = Exchange(Connection(), {"method": "POST"}, True, False)
    exchange.arrived(b"ab")
    exchange.arrived(b"c")
    assert await exchange.receive() == {"type": "http.request", "body": b"abc", "more_body": True}
    waiting = asyncio.create_task(exchange.receive())
    await asyncio.sleep(0)
    assert not waiting.done()
    exchange.more_body = False
    exchange.wake()
    assert await waiting == {"type": "http.request", "body": b"", "more_body": False}
    waiting = asyncio.create_task(exchange.receive())
    await asyncio.sleep(0)
    exchange.disconnected = True
    exchange.wake()
    assert await waiting == {"type": "http.disconnect"}
