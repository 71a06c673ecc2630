"""uvicorn's HTTP protocol with the bounds that it lacks: bytes of a head, and seconds for a request to arrive.

Stock uvicorn waits for ever for the rest of a head or a body, and takes a head of any size (measured; xorbitsai/inference
PR 5213 met the same). Here a request must have arrived whole within `receive_timeout`, however slowly its bytes drip, and a
body that nobody wants any more is read no further than a client needs to see why.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Any
from uuid import uuid4

import httptools
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from rerankd.dialects import root_error
from rerankd.errors import BadRequest, ClientError, HeadTooLarge, RequestTimeout
from rerankd.server.cancellation import EXTENSION, HANG_UP, HangUp

MAX_HEAD = 64 * 2**10
LINGER_BYTES = 2**20
LINGER_SECONDS = 2.0
STUCK_SECONDS = 30.0
NO_REQUEST = BadRequest("This is no HTTP/1.1 request that can be understood.")

log = logging.getLogger("rerankd.access")


class BoundedHttpProtocol(HttpToolsProtocol):
    def __init__(self, *args: Any, receive_timeout: float, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._receive_timeout = receive_timeout
        self._hang_up = HangUp()
        self._timer: asyncio.TimerHandle | None = None
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
        self._start_timer()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_timer()
        self._stop_watching()
        super().connection_lost(exc)
        self._hang_up.happens()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._watch_sending()

    def resume_writing(self) -> None:
        self._stop_watching()
        super().resume_writing()

    def data_received(self, data: bytes) -> None:
        if self._timer is None:
            self._start_timer()
        self._unset_keepalive_if_required()
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
        self._unset_keepalive_if_required()
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        if self.parser.should_upgrade():
            self._upgrading = True
            return
        self._in_head, self._advanced = False, True
        super().on_headers_complete()
        self.scope["extensions"] = {EXTENSION: {HANG_UP: self._hang_up}}
        self.cycle.transport = _Gently(self.transport, self)  # type: ignore[assignment]

    def on_body(self, body: bytes) -> None:
        self._advanced = True
        if self.cycle.response_complete:
            self._unwanted_bytes += len(body)
            if self._unwanted_bytes > LINGER_BYTES:
                self.transport.close()
        super().on_body(body)

    def on_message_complete(self) -> None:
        if self._upgrading:
            return
        self._arriving, self._in_head, self._advanced = False, True, True
        self._stop_timer()
        super().on_message_complete()
        if self._closing:
            self.transport.close()
        elif self.cycle.response_complete and not self.transport.is_closing():
            self.timeout_keep_alive_task = self.loop.call_later(
                self.timeout_keep_alive, self.timeout_keep_alive_handler
            )

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self._arriving and not self.transport.is_closing():
            self._unset_keepalive_if_required()
            unwanted = not self._in_head and self.cycle.response_complete
            self._start_timer(min(LINGER_SECONDS, self._receive_timeout) if unwanted else None)

    def close_gently(self) -> None:
        """Close once the rest of the request is here: a client that is still sending would lose its answer to a reset."""
        if self._arriving and not self._in_head:
            self._closing = True
            if self.transport.can_write_eof():
                self.transport.write_eof()
        else:
            self.transport.close()

    def _start_timer(self, seconds: float | None = None) -> None:
        self._stop_timer()
        self._timer = self.loop.call_later(seconds or self._receive_timeout, self._too_slow)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _too_slow(self) -> None:
        self._timer = None
        answering = self.cycle is not None and not self.cycle.response_complete and not self.cycle.more_body
        if answering or self.pipeline:  # a pipelined request waits for the one before it, and we have stopped reading
            self._start_timer()
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
        self._stop_timer()
        if self.transport.is_closing():
            return
        if self.pipeline or (self._in_head and self.cycle is not None and not self.cycle.response_complete):
            for cycle in (self.cycle, *(queued for queued, _ in self.pipeline)):
                cycle.keep_alive = False
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


class _Gently:
    """A transport whose `close` lets the client finish."""

    def __init__(self, transport: asyncio.Transport, protocol: BoundedHttpProtocol) -> None:
        self._transport = transport
        self._protocol = protocol

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def close(self) -> None:
        self._protocol.close_gently()
