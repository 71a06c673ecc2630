"""A reranker that works once for identical requests of one owner that are there at the same time.

Nobody is harmed by the company: a caller that goes away leaves the work to the others, the last one to go ends it, and only
those join whose deadline the work is sure to see. Most requests are alone with their query: only where two have the same
one is the rest of them compared.
"""

from __future__ import annotations

import asyncio
from copy import copy
from dataclasses import dataclass, field
from functools import cached_property
from hashlib import sha256
from time import monotonic

import msgspec

from rerankd.errors import RerankError
from rerankd.policies.calls import carry_over
from rerankd.reranker import Reranker
from rerankd.types import Call, Notes, RerankRequest, RerankResponse

Key = tuple[asyncio.AbstractEventLoop, str, str]
"""A loop, because a task can be awaited in its own alone; an owner; a query."""

LONGER = 0.1
"""Work may go on for so much longer than its first caller waits, so that those who come a little later can join."""


@dataclass(eq=False)
class Flight:
    """Work under way on a request, and those that wait for it."""

    request: RerankRequest
    work: asyncio.Task[RerankResponse]
    call: Call
    callers: set[asyncio.Future[None]] = field(default_factory=set)

    @cached_property
    def digest(self) -> bytes | None:
        return _digest(self.request)

    def outlasts(self, call: Call) -> bool:
        mine = self.call.deadline
        return mine is None or (call.deadline is not None and call.deadline <= mine)

    def result(self, notes: Notes) -> RerankResponse:
        """Raises a copy of the error: each raising of one lengthens its traceback, which holds on to its callers' frames."""
        carry_over(self.call.notes, notes)
        try:
            return self.work.result()
        except RerankError as error:
            raise copy(error) from error.__cause__


class Coalesced:
    def __init__(self, inner: Reranker) -> None:
        self._inner = inner
        self._flights: dict[Key, list[Flight]] = {}

    async def rerank(self, request: RerankRequest, call: Call) -> RerankResponse:
        """The error of work that fails is everybody's."""
        key = (asyncio.get_running_loop(), call.owner, request.query)
        flight = self._joined(key, request, call) or self._start(key, request, call)
        await self._wait(key, flight)
        return flight.result(call.notes)

    def _joined(self, key: Key, request: RerankRequest, call: Call) -> Flight | None:
        others = self._flights.get(key)
        digest = None if others is None else _digest(request)
        if others is None or digest is None:
            return None
        return next((flight for flight in others if flight.outlasts(call) and flight.digest == digest), None)

    def _start(self, key: Key, request: RerankRequest, call: Call) -> Flight:
        until = call.deadline
        if until is not None:
            until += max(0.0, until - monotonic()) * LONGER
        shared = msgspec.structs.replace(call, deadline=until, notes=Notes())
        flight = Flight(request, key[0].create_task(self._inner.rerank(request, shared)), shared)
        self._flights.setdefault(key, []).append(flight)

        def ended(work: asyncio.Task[RerankResponse]) -> None:
            self._forget(key, flight)
            if not work.cancelled():
                work.exception()  # looked at, or asyncio complains where the last caller has gone by now
            for caller in flight.callers:
                if not caller.done():
                    caller.set_result(None)

        flight.work.add_done_callback(ended)
        return flight

    async def _wait(self, key: Key, flight: Flight) -> None:
        """Until the work has ended; the last caller to be cancelled cancels it, and goes when it has ended."""
        caller = flight.work.get_loop().create_future()
        flight.callers.add(caller)
        try:
            await caller  # asyncio.wait would do, and costs more at each request
        finally:
            flight.callers.remove(caller)
            if not flight.callers and not flight.work.done():
                self._forget(key, flight)
                flight.work.cancel()
                await asyncio.wait({flight.work})

    def _forget(self, key: Key, flight: Flight) -> None:
        """Nobody joins it from now on; it may be forgotten twice."""
        flights = self._flights.get(key, [])
        if flight in flights:
            flights.remove(flight)
            if not flights:
                del self._flights[key]


def _digest(request: RerankRequest) -> bytes | None:
    """Of all that an answer depends on; None where the request holds what has no bytes, such as half a character."""
    try:
        return sha256(msgspec.msgpack.encode(msgspec.structs.replace(request, unread=()))).digest()
    except (OverflowError, UnicodeEncodeError):
        return None
