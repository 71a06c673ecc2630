"""uvicorn's HTTP protocol with the bounds that it lacks: bytes of a head, and seconds for a request to arrive.

Stock uvicorn waits for ever for the rest of a head or a body, and takes a head of any size (measured; xorbitsai/inference
PR 5213 met the same). Here a request must have arrived whole within `receive_timeout`, however slowly its bytes drip, and a
body that nobody wants any more is read no further than a client needs to see why.
"""

from __future__ import annotations

import asyncio
from typing import Any

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from rerankd.dialects import root_error
from rerankd.errors import BadRequest, ClientError, RequestTimeout

MAX_HEAD = 64 * 2**10
LINGER_BYTES = 2**20
LINGER_SECONDS = 2.0


class HeadTooLarge(ClientError):
    code = "head_too_large"
    status = 431


class BoundedHttpProtocol(HttpToolsProtocol):
    def __init__(self, *args: Any, receive_timeout: float, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._receive_timeout = receive_timeout
        self._timer: asyncio.TimerHandle | None = None
        self._in_head = True
        self._arriving = False
        self._head_bytes = 0
        self._unwanted_bytes = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._start_timer()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_timer()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._timer is None:
            self._start_timer()
        in_head = self._in_head
        super().data_received(data)
        if in_head and self._in_head and not self.transport.is_closing():
            self._head_bytes += len(data)
            if self._head_bytes > MAX_HEAD:
                self._refuse(HeadTooLarge(f"The request's head is larger than {MAX_HEAD} bytes."))

    def on_message_begin(self) -> None:
        self._arriving, self._in_head = True, True
        self._head_bytes = self._unwanted_bytes = 0
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        self._in_head = False
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        if self.cycle.response_complete:
            self._unwanted_bytes += len(body)
            if self._unwanted_bytes > LINGER_BYTES:
                self.transport.close()
        super().on_body(body)

    def on_message_complete(self) -> None:
        self._arriving, self._in_head = False, True
        self._stop_timer()
        super().on_message_complete()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self._arriving and not self.transport.is_closing():
            self._unset_keepalive_if_required()
            self._start_timer(min(LINGER_SECONDS, self._receive_timeout))

    def send_400_response(self, msg: str) -> None:
        self._refuse(BadRequest("This is no HTTP/1.1 request that can be understood."))

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
        if answering:  # a pipelined request waits for the one before it, and we ourselves have stopped reading
            self._start_timer()
        elif self._arriving and not self._answered():
            self._refuse(RequestTimeout(f"The request did not arrive within {self._receive_timeout:g} s."))
        else:
            self.transport.close()

    def _answered(self) -> bool:
        return not self._in_head and self.cycle is not None and self.cycle.response_started

    def _refuse(self, error: ClientError) -> None:
        self._stop_timer()
        if self.transport.is_closing():
            return
        status, body = root_error.render(error)
        lines = (
            STATUS_LINE.get(status, b"HTTP/1.1 %d \r\n" % status),
            b"content-type: application/json\r\ncontent-length: %d\r\nconnection: close\r\n\r\n" % len(body),
            body,
        )
        self.transport.write(b"".join(lines))
        self.transport.close()
