"""One rerank route: bytes come in by a dialect, the pipeline answers, and bytes and headers go out by the same dialect.

It takes the raw request, so that its bytes are counted, decoded once and copied never.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from time import monotonic, perf_counter

import msgspec
from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from rerankd.accounts import Caller
from rerankd.app import Application
from rerankd.dialects.base import Dialect
from rerankd.dialects.strictness import refuse_unknown
from rerankd.errors import EngineError, RerankError, TooLarge
from rerankd.policies.idempotent import HEADER, REPLAYED, as_first_given, idempotency_key_of
from rerankd.server.bodies import by_name, read_body
from rerankd.server.cancellation import unless_disconnected
from rerankd.server.errors import error_response
from rerankd.server.facts import Facts
from rerankd.server.health import Readiness
from rerankd.server.keys import KeyCheck
from rerankd.server.known_keys import UNKNOWN
from rerankd.server.ratelimit_headers import ratelimit_headers
from rerankd.server.routes import RerankRoute
from rerankd.types import LOCAL, Call, RerankRequest, RerankResponse

log = logging.getLogger("rerankd.server")

LONGEST_WARNING = 2000
IDEMPOTENCY = HEADER.lower().encode()
DEGRADED = b"x-rerankd-degraded"
"""What is away while requests go on without it."""


class RerankEndpoint:
    """Closed: without a key where one is needed, nothing is read."""

    def __init__(self, application: Application, route: RerankRoute, readiness: Readiness, keys: KeyCheck) -> None:
        self._application = application
        self._keys = keys
        self._limits = application.settings.server
        self._route = route
        self._strict = route.path in self._limits.strict
        self._readiness = readiness

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        response = await self._answer(scope, receive)
        await send({"type": "http.response.start", "status": response.status_code, "headers": response.raw_headers})
        await send({"type": "http.response.body", "body": response.body})

    async def _answer(self, scope: Scope, receive: Receive) -> Response:
        facts: Facts = scope["state"]["facts"]
        facts.route, facts.dialect = self._route.path, self._route.dialect.name
        dialect, call = self._route.dialect, None
        try:
            caller = self._keys.cached(scope)
            if caller is UNKNOWN:
                caller = await self._keys.caller(scope)
            headers = by_name(scope["headers"])
            call = facts.call = self._call(facts, caller, headers.get(IDEMPOTENCY))
            body = await read_body(headers, receive, self._limits.max_body)
            started = perf_counter()
            dialect = self._route.choose(headers, body)
            facts.dialect = dialect.name
            asked = self._parse(dialect, body, scope.get("path_params", {}).get("model"), call)
            facts.asked(asked)
            call.notes.took("parse", (perf_counter() - started) * 1000)
            answer = await unless_disconnected(scope, receive, self._application.rerank(asked, call))
            if call.notes.channel == LOCAL and not call.notes.cached:  # a channel may serve a model of that name, too
                self._readiness.succeeded(answer.model)
            facts.answered(answer)
            return self._rendered(dialect, self._warned(answer, asked), asked, call)
        except RerankError as error:
            return self._failed(error, dialect, facts)
        except ClientDisconnect:
            return Response(status_code=499)
        except Exception:
            log.exception("request %s failed", facts.request_id)
            failed = EngineError(f"rerankd failed on this request; the server's log has it as {facts.request_id}.")
            return self._failed(failed, dialect, facts)

    def _call(self, facts: Facts, caller: Caller | None, idempotency_key: bytes | None) -> Call:
        """Raises as `idempotency_key_of` does."""
        return Call(
            request_id=facts.request_id,
            deadline=monotonic() + self._limits.deadline,
            created=int(facts.at),
            owner="" if caller is None else caller.namespace,
            caller=caller,
            idempotency_key=idempotency_key_of(None if idempotency_key is None else idempotency_key.decode("latin-1")),
            traceparent=facts.traceparent,
        )

    def _parse(self, dialect: Dialect, body: bytes, model: str | None, call: Call) -> RerankRequest:
        """`model` is the one that the path names."""
        asked = dialect.parse_request(body)
        if self._strict or (call.caller is not None and call.caller.strict):
            refuse_unknown(body, dialect.schemas()[0])
        if len(asked.documents) > self._limits.max_documents:
            raise TooLarge(
                f"The request has {len(asked.documents)} documents; {self._limits.max_documents} are allowed here "
                "(server.max_documents).",
                param="documents",
            )
        name = self._application.catalog.name_for(model or asked.model, dialect.default_model)
        return asked if name == asked.model else msgspec.structs.replace(asked, model=name)

    def _warned(self, answer: RerankResponse, asked: RerankRequest) -> RerankResponse:
        warnings = [f"{name}: not honoured here" for name in asked.unread]
        if self._route.warning is not None:
            warnings.append(self._route.warning)
        return msgspec.structs.replace(answer, warnings=(*answer.warnings, *warnings)) if warnings else answer

    def _rendered(self, dialect: Dialect, answer: RerankResponse, asked: RerankRequest, call: Call) -> Response:
        started = perf_counter()
        call = as_first_given(call)
        body = dialect.render_response(answer, asked, call)
        call.notes.took("render", (perf_counter() - started) * 1000)
        notes = call.notes
        headers = [
            (name.encode(), value.encode()) for name, value in dialect.response_headers(answer, asked, call).items()
        ]
        headers.append((b"x-rerankd-model", answer.model.encode()))
        headers.append((b"server-timing", _timing(notes.timings)))
        if notes.channel is not None:
            headers.append((b"x-rerankd-channel", notes.channel.encode()))
        if notes.replayed:
            headers.append((REPLAYED.encode(), b"true"))
        if self._keys.away:
            headers.append((DEGRADED, b"database"))
        if answer.warnings:
            headers.append((b"x-rerankd-warning", _one_line("; ".join(answer.warnings))))
        return Answer(body, headers + ratelimit_headers(notes.allowances))

    def _failed(self, error: RerankError, dialect: Dialect, facts: Facts) -> Response:
        facts.error = error.code
        response = error_response(error, dialect.render_error, facts.request_id)
        if facts.call is not None:
            response.raw_headers += ratelimit_headers(facts.call.notes.allowances)
        return response


class Answer(Response):
    """JSON, with all of its headers known: Starlette's own looks through them for what it has to add."""

    def __init__(self, body: bytes, headers: list[tuple[bytes, bytes]]) -> None:
        self.status_code = 200
        self.background = None
        self.body = body
        self.raw_headers = headers
        headers += ((b"content-length", b"%d" % len(body)), (b"content-type", b"application/json"))


def _timing(timings: Mapping[str, float]) -> bytes:
    """In milliseconds."""
    return ", ".join(["%s;dur=%.2f" % stage for stage in timings.items()]).encode()  # noqa: UP031  (half the work of f"")


def _one_line(text: str) -> bytes:
    """As a header can hold it: an upstream's warning may hold anything."""
    return "".join(character if " " <= character <= "~" else "?" for character in text[:LONGEST_WARNING]).encode()
