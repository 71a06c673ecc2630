"""What is told of a request when it has ended: to the log, the metrics and the traces. It holds no query and no document.

Whoever answers fills in what only it knows; the rest is `RequestIds`'.
"""

from __future__ import annotations

from typing import Protocol

import msgspec

from rerankd.types import Call, RerankRequest, RerankResponse, Usage

UNMATCHED = "unmatched"
"""The route of a request that no route has taken."""


class Facts(msgspec.Struct):
    """`at` is in seconds since 1970, `started` of `time.perf_counter`, `seconds` is all that it took.

    `path`, `model` and `request_id` may be the client's own words; `route`, `dialect` and `error` (a code) are ours.
    `traceparent` names the request's span to those that are asked on its behalf; it is empty where nothing is traced.
    """

    request_id: str
    method: str
    path: str
    at: float
    started: float
    status: int = 0
    seconds: float = 0.0
    route: str = UNMATCHED
    dialect: str = ""
    model: str = ""
    documents: int = 0
    call: Call | None = None
    usage: Usage | None = None
    warnings: int = 0
    error: str = ""
    traceparent: str = ""

    def asked(self, request: RerankRequest) -> None:
        self.model = request.model or ""
        self.documents = len(request.documents)

    def answered(self, response: RerankResponse) -> None:
        self.model = response.model
        self.usage = response.usage
        self.warnings = len(response.warnings)

    @property
    def channel(self) -> str:
        """Who answered, or was asked last; empty where nobody was."""
        return "" if self.call is None else self.call.notes.channel or ""


class Observer(Protocol):
    """Told of each request when it has ended, on the event loop: it must not wait."""

    def ended(self, facts: Facts) -> None: ...


class Tracer(Observer, Protocol):
    """Told when a request begins, too."""

    def began(self, facts: Facts, headers: list[tuple[bytes, bytes]]) -> None:
        """Sets the facts' `traceparent`. Names of headers are in small letters."""
        ...
