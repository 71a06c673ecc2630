"""Whether a request is let in: one decision, before any work, by how long it would wait at the rate that was measured.

A request waits for what shares the device with it, and of a larger one only for as much as it is large itself, because
requests take turns. Refused means 503 and the seconds after which there is room again.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from time import monotonic

from rerankd.errors import Overloaded
from rerankd.types import RerankRequest

BYTES_PER_TOKEN = 4
"""English has 4 to 5, Chinese 3 bytes a character and some 1.4 characters a token."""
SMOOTHING = 0.2
MAX_REQUESTS = 10_000
SOONEST = 1.0
"""Seconds: nobody is told to try again sooner."""


@dataclass(slots=True, eq=False)
class Rate:
    """Units of cost that a runner gets done in a second of the device's time; measured at load, then from each batch."""

    per_second: float

    def observe(self, cost: float, seconds: float, *, full: bool) -> None:
        """A batch that is not `full` is mostly overhead: it says that the device is at least so fast, and no more."""
        if cost > 0 and seconds > 0 and (full or cost > seconds * self.per_second):
            self.per_second += SMOOTHING * (cost / seconds - self.per_second)


@dataclass(slots=True, eq=False)
class Ticket:
    """A request that was let in: what is left of it, in units of cost, and its runner's rate."""

    rate: Rate
    left: float

    @property
    def seconds(self) -> float:
        return self.left / self.rate.per_second


@dataclass(frozen=True, slots=True)
class Load:
    """What is in: requests, what is left of them in units of cost, and in seconds at the rates that were measured."""

    requests: int
    cost: float
    seconds: float


class Admission:
    """Everything that was let in and has not ended, for one device; any thread may ask."""

    def __init__(self, max_wait: float) -> None:
        self.max_wait = max_wait
        self._tickets: set[Ticket] = set()
        self._lock = threading.Lock()

    def __len__(self) -> int:
        """Requests that are in."""
        return len(self._tickets)

    @property
    def load(self) -> Load:
        with self._lock:
            tickets = list(self._tickets)
        return Load(len(tickets), sum(one.left for one in tickets), sum(one.seconds for one in tickets))

    @contextmanager
    def enter(self, cost: float, rate: Rate, deadline: float | None) -> Iterator[Ticket]:
        """In until the block is left; where there is nobody, everybody is let in.

        Raises `Overloaded` where the wait would be too long, with the seconds until it is not.
        """
        ticket = Ticket(rate, cost)
        with self._lock:
            if self._tickets:
                self._check(ticket, deadline)
            self._tickets.add(ticket)
        try:
            yield ticket
        finally:
            with self._lock:
                self._tickets.discard(ticket)

    def _check(self, ticket: Ticket, deadline: float | None) -> None:
        own = ticket.seconds
        wait = sum(min(other.seconds, own) for other in self._tickets)
        allowed = self.max_wait
        if deadline is not None:
            allowed = max(0.0, min(allowed, deadline - monotonic() - own))
        if wait > allowed or len(self._tickets) >= MAX_REQUESTS:
            raise Overloaded(
                f"The model is busy: this request would wait for some {wait:.0f} s.",
                retry_after=max(SOONEST, wait - allowed),
            )


def estimated_cost(request: RerankRequest, max_length: int | None) -> float:
    """What a request will cost before its texts are tokenised: its bytes, by four.

    Where `max_length` tokens are read at once the query is read with each document; where there is no limit, once.
    """
    query = _tokens(request.query)
    documents = [_tokens(document.text) for document in request.documents]
    if max_length is None:
        return float(query + sum(documents))
    if request.max_chunks_per_doc is not None:
        return float(sum(query + length for length in documents))
    return float(sum(min(query + length, max_length) for length in documents))


def _tokens(text: str) -> int:
    size = len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))
    return 1 + size // BYTES_PER_TOKEN
