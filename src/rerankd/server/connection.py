"""uvicorn's HTTP protocol with the bounds that it lacks: bytes of a head, and seconds for a request to arrive.

Stock uvicorn waits for ever for the rest of a head or a body, and takes a head of any size (measured; xorbitsai/inference
PR 5213 met the same). Here a request must have arrived whole within `receive_timeout`, however slowly its bytes drip, and a
body that nobody wants any more is read no further than a client needs to see why.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from math import inf
from typing import Any
from urllib.parse import unquote
from uuid import uuid4

import httptools
from starlette.types import Scope
from uvicorn.protocols.http.flow_control import HIGH_WATER_LIMIT
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from rerankd.dialects import root_error
from rerankd.errors import BadRequest, ClientError, HeadTooLarge, RequestTimeout
from rerankd.server.cancellation import EXTENSION, HANG_UP, HangUp
from rerankd.server.exchange import Exchange

MAX_HEAD = 64 * 2**10
LINGER_BYTES = 2**20
LINGER_SECONDS = 2.0
STUCK_SECONDS = 30.0
NEVER = inf
ASGI = {"version": "3.0", "spec_version": "2.3"}
NO_REQUEST = BadRequest("This is no HTTP/1.1 request that can be understood.")

log = logging.getLogger("rerankd.access")


class BoundedHttpProtocol(HttpToolsProtocol):
    cycle: Exchange  # type: ignore[assignment]
    pipeline: deque[Exchange]  # type: ignore[assignment]

    def __init__(self, *args: Any, receive_timeout: float, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._receive_timeout = receive_timeout
        self._hang_up = HangUp()
        self._extensions = {EXTENSION: {HANG_UP: self._hang_up}}
        self._timer: asyncio.TimerHandle | None = None
        self._rings = self._due = NEVER
        self._resting = False
        self._sending: asyncio.TimerHandle | None = None
        self._in_head = True
        self._arriving = False
        self._closing = False
        self._upgrading = False
        self._advanced = False
        self._loose_bytes = 0
        self._unwanted_bytes = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._end_within(self._receive_timeout)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._stop_watching()
        self.connections.discard(self)
        if self.cycle is not None:
            self.cycle.disconnected = not self.cycle.response_complete
            self.cycle.wake()
        self.flow.resume_writing()
        if exc is None:
            self.transport.close()
        self.parser = None  # type: ignore[assignment]
        self._hang_up.happens()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._watch_sending()

    def resume_writing(self) -> None:
        self._stop_watching()
        super().resume_writing()

    def data_received(self, data: bytes) -> None:
        if self._resting or self._due == NEVER:
            self._end_within(self._receive_timeout)
        self._advanced = False
        self._feed(data)
        # Heads, trailers and chunk extensions have no size of their own, and the parser keeps them whole.
        self._loose_bytes = 0 if self._advanced else self._loose_bytes + len(data)
        if self._loose_bytes > MAX_HEAD:
            self._refuse(HeadTooLarge(f"The request's head is larger than {MAX_HEAD} bytes."))

    def _feed(self, data: bytes) -> None:
        rest = memoryview(data)
        while True:
            try:
                self.parser.feed_data(rest)
                return
            except httptools.HttpParserUpgrade as upgrade:
                rest = rest[upgrade.args[0] :]
                if self.parser.get_method() == b"CONNECT":
                    self._refuse(NO_REQUEST)
                    return
                self._ask_without_upgrade()
            except httptools.HttpParserError:
                self._refuse(NO_REQUEST)
                return

    def _ask_without_upgrade(self) -> None:
        """The same head again, as if it had not asked for another protocol.

        The parser drops the body of a request that does, and Java's HttpClient does so in its POSTs (h2c).
        """
        lines = [b"%s %s HTTP/%s" % (self.parser.get_method(), self.url, self.parser.get_http_version().encode())]
        lines += [b"%s: %s" % header for header in self.headers if header[0] != b"upgrade"]
        self.parser = httptools.HttpRequestParser(self)
        self.parser.feed_data(b"\r\n".join(lines) + b"\r\n\r\n")

    def on_message_begin(self) -> None:
        self._arriving, self._in_head, self._upgrading = True, True, False
        self._unwanted_bytes = 0
        self.url, self.headers, self.expect_100_continue = b"", [], False

    def on_headers_complete(self) -> None:
        if self.parser.should_upgrade():
            self._upgrading = True
            return
        self._in_head, self._advanced = False, True
        version, before = self.parser.get_http_version(), self.cycle
        keep_alive = version != "1.0" and self.parser.should_keep_alive()
        self.cycle = Exchange(self, self._scope(version), keep_alive, self.expect_100_continue)
        if before is None or before.response_complete:
            self._run(self.cycle)
        else:
            self.flow.pause_reading()
            self.pipeline.appendleft(self.cycle)

    def _scope(self, version: str) -> Scope:
        url = httptools.parse_url(self.url)
        path = url.path.decode("ascii")
        return {
            "type": "http",
            "asgi": ASGI,
            "http_version": version,
            "method": self.parser.get_method().decode("ascii"),
            "scheme": self.scheme,
            "path": unquote(path) if "%" in path else path,
            "raw_path": url.path,
            "query_string": url.query or b"",
            "root_path": "",
            "headers": self.headers,
            "client": self.client,
            "server": self.server,
            "state": self.app_state.copy(),
            "extensions": self._extensions,
        }

    def _run(self, exchange: Exchange) -> None:
        self.tasks.add(self.loop.create_task(exchange.run(self.app)))

    def on_body(self, body: bytes) -> None:
        self._advanced = True
        exchange = self.cycle
        if exchange.response_complete:
            self._unwanted_bytes += len(body)
            if self._unwanted_bytes > LINGER_BYTES:
                self.transport.close()
            return
        exchange.arrived(body)
        if exchange.size > HIGH_WATER_LIMIT:
            self.flow.pause_reading()

    def on_message_complete(self) -> None:
        if self._upgrading:
            return
        self._arriving, self._in_head, self._advanced = False, True, True
        self._due = NEVER
        if not self.cycle.response_complete:
            self.cycle.more_body = False
            self.cycle.wake()
        elif not self._closing:
            self._rest()
        if self._closing:
            self.transport.close()

    def on_response_complete(self) -> None:
        self.server_state.total_requests += 1
        if self.transport.is_closing():
            return
        self.flow.resume_reading()
        unwanted = self._arriving and not self._in_head and self.cycle.response_complete
        if self.pipeline:
            self._run(self.pipeline.pop())
        elif not self._arriving:
            self._rest()
        if self._arriving:
            self._end_within(min(LINGER_SECONDS, self._receive_timeout) if unwanted else self._receive_timeout)

    def close_gently(self) -> None:
        """Close once the rest of the request is here: a client that is still sending would lose its answer to a reset."""
        if self._arriving and not self._in_head:
            self._closing = True
            if self.transport.can_write_eof():
                self.transport.write_eof()
        else:
            self.transport.close()

    def _rest(self) -> None:
        """Between two requests."""
        self._end_within(self.timeout_keep_alive)
        self._resting = True

    def _end_within(self, seconds: float) -> None:
        self._resting = False
        self._due = self.loop.time() + seconds
        self._wind()

    def _wind(self) -> None:
        """The timer rings when it is due or before that: one for each bound of each request would cost more than they do."""
        if self._due < self._rings:
            if self._timer is not None:
                self._timer.cancel()
            self._timer, self._rings = self.loop.call_at(self._due, self._ring), self._due

    def _ring(self) -> None:
        self._rings = NEVER
        if self._due <= self.loop.time():
            self._too_slow()
        else:
            self._wind()

    def _too_slow(self) -> None:
        self._due = NEVER
        answering = self.cycle is not None and not self.cycle.response_complete and not self.cycle.more_body
        if answering or self.pipeline:  # a pipelined request waits for the one before it, and we have stopped reading
            self._end_within(self._receive_timeout)
        elif self._arriving:
            self._refuse(RequestTimeout(f"The request did not arrive within {self._receive_timeout:g} s."))
        else:
            self.transport.close()

    def _watch_sending(self) -> None:
        """Let go of a client that takes nothing of its answer, which would stay in memory for as long as it likes."""
        self._stop_watching()
        unsent = self.transport.get_write_buffer_size()

        def look_again() -> None:
            if self.transport.get_write_buffer_size() < unsent:
                self._watch_sending()
            else:
                self.transport.abort()

        self._sending = self.loop.call_later(STUCK_SECONDS, look_again)

    def _stop_watching(self) -> None:
        if self._sending is not None:
            self._sending.cancel()
            self._sending = None

    def _refuse(self, error: ClientError) -> None:
        """Answer what has not been answered, and close; an answer that an earlier request waits for comes first."""
        self._due = NEVER
        if self.transport.is_closing():
            return
        if self.pipeline or (self._in_head and self.cycle is not None and not self.cycle.response_complete):
            for exchange in (self.cycle, *self.pipeline):
                exchange.keep_alive = False
            self.flow.pause_reading()
            return
        if not self._in_head and self.cycle is not None and self.cycle.response_started:
            self.transport.close()
            return
        status, body = root_error.render(error)
        request_id = uuid4().hex
        lines = (
            STATUS_LINE.get(status, b"HTTP/1.1 %d \r\n" % status),
            b"content-type: application/json\r\nx-request-id: %s\r\n" % request_id.encode(),
            b"content-length: %d\r\nconnection: close\r\n\r\n" % len(body),
            body,
        )
        log.info("%d no whole request %s", status, request_id)
        self.transport.write(b"".join(lines))
        self.transport.close()
