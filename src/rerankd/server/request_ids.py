"""Every request has an id: the client's where it sends a decent one, else ours; every answer and log line carries it."""

from __future__ import annotations

import logging
import re
from time import perf_counter
from uuid import uuid4

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

log = logging.getLogger("rerankd.access")

HEADER = "x-request-id"
DECENT = re.compile(r"[A-Za-z0-9._:-]{1,128}")


class RequestIds:
    """Puts `request_id` into the request's state and the answer's headers, and logs one line: no query, no document."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = perf_counter()
        sent = Headers(scope=scope).get(HEADER, "")
        request_id = sent if DECENT.fullmatch(sent) else uuid4().hex
        scope.setdefault("state", {})["request_id"] = request_id

        async def send_with_id(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message)[HEADER] = request_id
                took = (perf_counter() - started) * 1000
                log.info("%d %s %r %.1f ms %s", message["status"], scope["method"], scope["path"], took, request_id)
            await send(message)

        await self._app(scope, receive, send_with_id)
