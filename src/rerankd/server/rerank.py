"""One rerank route: bytes come in by a dialect, the pipeline answers, and bytes and headers go out by the same dialect.

It takes the raw request, so that its bytes are counted, decoded once and copied never.
"""

from __future__ import annotations

import logging
from time import monotonic, perf_counter

import msgspec
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from rerankd.app import Application
from rerankd.dialects.base import Dialect
from rerankd.dialects.strictness import refuse_unknown
from rerankd.errors import EngineError, RerankError, TooLarge
from rerankd.policies.idempotent import HEADER as IDEMPOTENCY
from rerankd.policies.idempotent import REPLAYED, as_first_given, idempotency_key_of
from rerankd.server.bodies import read_body
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
DEGRADED = "x-rerankd-degraded"
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

    async def answer(self, request: Request) -> Response:
        facts: Facts = request.state.facts
        facts.route, facts.dialect = self._route.path, self._route.dialect.name
        dialect, call = self._route.dialect, None
        try:
            call = facts.call = await self._called(request, facts)
            body = await read_body(request, self._limits.max_body)
            started = perf_counter()
            dialect = self._route.choose(request.headers, body)
            facts.dialect = dialect.name
            asked = self._parse(dialect, body, request.path_params.get("model"), call)
            facts.asked(asked)
            call.notes.took("parse", (perf_counter() - started) * 1000)
            answer = await unless_disconnected(request, self._application.rerank(asked, call))
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

    async def _called(self, request: Request, facts: Facts) -> Call:
        """Who asks, as whom, and for how long. Raises as `KeyCheck` does."""
        caller = self._keys.cached(request)
        if caller is UNKNOWN:
            caller = await self._keys.caller(request)
        return Call(
            request_id=facts.request_id,
            deadline=monotonic() + self._limits.deadline,
            created=int(facts.at),
            owner="" if caller is None else caller.namespace,
            caller=caller,
            idempotency_key=idempotency_key_of(request.headers.get(IDEMPOTENCY)),
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
        return msgspec.structs.replace(asked, model=name)

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
        headers = {
            **dialect.response_headers(answer, asked, call),
            "x-rerankd-model": answer.model,
            "server-timing": ", ".join(f"{stage};dur={took:.2f}" for stage, took in call.notes.timings.items()),
        }
        if call.notes.channel is not None:
            headers["x-rerankd-channel"] = call.notes.channel
        if call.notes.replayed:
            headers[REPLAYED] = "true"
        if self._keys.away:
            headers[DEGRADED] = "database"
        if answer.warnings:
            headers["x-rerankd-warning"] = _one_line("; ".join(answer.warnings))
        response = Response(body, media_type="application/json", headers=headers)
        response.raw_headers += ratelimit_headers(call.notes.allowances)
        return response

    def _failed(self, error: RerankError, dialect: Dialect, facts: Facts) -> Response:
        facts.error = error.code
        response = error_response(error, dialect.render_error, facts.request_id)
        if facts.call is not None:
            response.raw_headers += ratelimit_headers(facts.call.notes.allowances)
        return response


def _one_line(text: str) -> str:
    """As a header can hold it: an upstream's warning may hold anything."""
    return "".join(character if " " <= character <= "~" else "?" for character in text[:LONGEST_WARNING])
