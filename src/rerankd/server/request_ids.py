"""Every request has an id: the client's where it sends a decent one, else ours; every answer and log line carries it.

Here a request begins and ends, so here is who is told of it.
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Sequence
from time import perf_counter, time

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from rerankd.policies.uuid7 import uuid7
from rerankd.server.access_log import AccessLog
from rerankd.server.facts import UNMATCHED, Facts, Observer, Tracer

log = logging.getLogger("rerankd.server")

HEADER = b"x-request-id"
DECENT = re.compile(rb"[A-Za-z0-9._:-]{1,128}")
GONE = 499


class RequestIds:
    """Puts `request_id` and `facts` into the request's state and the id into the answer's headers; tells the `observers` of
    each request that has ended, and `tracer` of each that begins as well.
    """

    def __init__(self, app: ASGIApp, observers: Sequence[Observer] | None = None, tracer: Tracer | None = None) -> None:
        """Without `observers` there is a line in the log for each request."""
        self._app = app
        self._tracer = tracer
        told = (AccessLog(),) if observers is None else observers
        self._observers = (*told, *(() if tracer is None else (tracer,)))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        facts = Facts(_request_id(scope), scope["method"], scope["path"], time(), perf_counter())
        if self._tracer is not None:
            self._tracer.began(facts, scope["headers"])
        state = scope.setdefault("state", {})
        state["request_id"], state["facts"] = facts.request_id, facts
        own_header = (HEADER, facts.request_id.encode())

        async def send_with_id(message: Message) -> None:
            if message["type"] == "http.response.start":
                facts.status = message["status"]
                message["headers"] = [*message.get("headers", ()), own_header]
            await send(message)

        try:
            await self._app(scope, receive, send_with_id)
        except asyncio.CancelledError:
            facts.status = facts.status or GONE
            raise
        finally:
            self._tell(facts, scope)

    def _tell(self, facts: Facts, scope: Scope) -> None:
        facts.seconds = perf_counter() - facts.started
        facts.status = facts.status or 500
        if facts.route is UNMATCHED:
            facts.route = getattr(scope.get("route"), "path", UNMATCHED)
        for observer in self._observers:
            try:
                observer.ended(facts)
            except Exception:  # the answer is on its way: what is told of it must not spoil it
                log.exception("request %s could not be told of", facts.request_id)


def _request_id(scope: Scope) -> str:
    for name, value in scope["headers"]:
        if name == HEADER:
            if DECENT.fullmatch(value):
                return str(value, "ascii")
            break
    return uuid7()  # one that sorts by time: an index over chance alone is written all over for each row
