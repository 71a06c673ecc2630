"""One request of a connection and its answer, as an ASGI application has them.

An answer whose parts come at once leaves in one piece, and no header can begin another line.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable
from http import HTTPStatus
from typing import Protocol

from starlette.types import ASGIApp, Message, Scope
from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.server import ServerState

log = logging.getLogger("uvicorn.error")

Headers = Iterable[tuple[bytes, bytes]]

STATUS_LINES = {status.value: f"HTTP/1.1 {status.value} {status.phrase}".encode() for status in HTTPStatus}
FAILED = b"Internal Server Error"
WITHOUT_BODY = (204, 304)
CR, LF, NUL = 13, 10, 0


class Connection(Protocol):
    transport: asyncio.Transport
    flow: FlowControl
    server_state: ServerState

    def close_gently(self) -> None: ...
    def on_response_complete(self) -> None: ...


class Exchange:
    """`receive` and `send` are the application's, the rest is the connection's: it puts in what has arrived of the body."""

    __slots__ = (
        "_chunked",
        "_connection",
        "_expects_100",
        "_head",
        "_news",
        "_pieces",
        "_scope",
        "_unsent",
        "_waiter",
        "disconnected",
        "keep_alive",
        "more_body",
        "response_complete",
        "response_started",
        "size",
    )

    def __init__(self, connection: Connection, scope: Scope, keep_alive: bool, expects_100: bool) -> None:
        self._connection = connection
        self._scope = scope
        self._expects_100 = expects_100
        self.keep_alive = keep_alive
        self.disconnected = False
        self.more_body = True
        self.size = 0
        """Of what has arrived of the body and was not received yet, in bytes."""
        self._pieces: list[bytes] = []
        self._news = False
        self._waiter: asyncio.Future[None] | None = None
        self.response_started = self.response_complete = False
        self._head = b""
        self._chunked = False
        self._unsent = 0

    def arrived(self, piece: bytes) -> None:
        self._pieces.append(piece)
        self.size += len(piece)
        self.wake()

    def wake(self) -> None:
        """There is something new to receive: a piece of the body, its end, or the end of all."""
        self._news = True
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    async def run(self, app: ASGIApp) -> None:
        tasks, task = self._connection.server_state.tasks, asyncio.current_task()
        try:
            await app(self._scope, self.receive, self.send)
        except BaseException:
            log.exception("Exception in ASGI application")
            await self._give_up()
        else:
            if not self.response_complete and not self.disconnected:
                log.error("The application returned without an answer.")
                await self._give_up()
        finally:
            tasks.discard(task)

    async def receive(self) -> Message:
        transport = self._connection.transport
        if self._expects_100 and not transport.is_closing():
            transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            self._expects_100 = False
        if not self.disconnected and not self.response_complete:
            self._connection.flow.resume_reading()
            if not self._news:
                self._waiter = asyncio.get_running_loop().create_future()
                await self._waiter
            self._news = False
        if self.disconnected or self.response_complete:
            return {"type": "http.disconnect"}
        body, self._pieces, self.size = b"".join(self._pieces), [], 0
        return {"type": "http.request", "body": body, "more_body": self.more_body}

    async def send(self, message: Message) -> None:
        """Raises `RuntimeError` where the application's messages make no answer."""
        flow = self._connection.flow
        if flow.write_paused and not self.disconnected:
            await flow.drain()
        if self.disconnected:
            return
        expected = "http.response.body" if self.response_started else "http.response.start"
        if message["type"] != expected or self.response_complete:
            raise RuntimeError(f"The application sent {message['type']} at the wrong time.")
        if self.response_started:
            self._write(message.get("body", b""), message.get("more_body", False))
        else:
            self._begin(message["status"], message.get("headers", ()))

    def _begin(self, status: int, headers: Headers) -> None:
        self.response_started, self._expects_100 = True, False
        sized = self._scope["method"] == "HEAD" or status in WITHOUT_BODY
        closes = False
        lines = [*self._connection.server_state.default_headers, *headers]
        for name, value in lines:
            if name == b"content-length":
                self._unsent, sized = int(value), True
            elif name == b"connection" and b"close" in value.lower():
                self.keep_alive, closes = False, True
        if not sized:
            self._chunked = True
            lines.append((b"transfer-encoding", b"chunked"))
        if not self.keep_alive and not closes:
            lines.append((b"connection", b"close"))
        self._head = _head(status, lines)

    def _write(self, body: bytes, more: bool) -> None:
        if self._scope["method"] == "HEAD":
            body, self._unsent = b"", 0
        elif self._chunked:
            body = (b"%x\r\n%b\r\n" % (len(body), body) if body else b"") + (b"" if more else b"0\r\n\r\n")
        else:
            self._unsent -= len(body)
            if self._unsent < 0:
                raise RuntimeError("The body is longer than its content-length.")
        head, self._head = self._head, b""
        self._connection.transport.writelines((head, body))
        if not more:
            self._end()

    def _end(self) -> None:
        if self._unsent:
            raise RuntimeError("The body is shorter than its content-length.")
        self.response_complete = True
        self.wake()
        if not self.keep_alive:
            self._connection.close_gently()
        self._connection.on_response_complete()

    async def _give_up(self) -> None:
        """Tell the client, where it has not been told anything yet."""
        if self.response_started:
            self._connection.close_gently()
            return
        headers = [(b"content-type", b"text/plain; charset=utf-8"), (b"content-length", b"%d" % len(FAILED))]
        headers.append((b"connection", b"close"))
        await self.send({"type": "http.response.start", "status": 500, "headers": headers})
        await self.send({"type": "http.response.body", "body": FAILED})


def _head(status: int, headers: list[tuple[bytes, bytes]]) -> bytes:
    """Raises `RuntimeError` where a header would not stay on its line."""
    parts = [STATUS_LINES.get(status) or b"HTTP/1.1 %d " % status]
    for name, value in headers:
        parts += (b"\r\n", name, b": ", value)
    parts.append(b"\r\n\r\n")
    head, ends = b"".join(parts), len(headers) + 2
    if head.count(CR) != ends or head.count(LF) != ends or NUL in head:
        raise RuntimeError("A header holds what ends a line.")
    return head
