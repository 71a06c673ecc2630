"""One rerank route: bytes come in by a dialect, the pipeline answers, and bytes and headers go out by the same dialect.

It takes the raw request, so that its bytes are counted, decoded once and copied never.
"""

from __future__ import annotations

import logging
from time import monotonic, perf_counter, time

import msgspec
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from rerankd.app import Application
from rerankd.dialects.base import Dialect
from rerankd.errors import EngineError, RerankError, TooLarge
from rerankd.server.bodies import read_body
from rerankd.server.cancellation import unless_disconnected
from rerankd.server.errors import error_response
from rerankd.server.health import Readiness
from rerankd.types import Call, RerankRequest, RerankResponse

log = logging.getLogger("rerankd.server")


class RerankEndpoint:
    def __init__(self, application: Application, dialect: Dialect, readiness: Readiness) -> None:
        self._application = application
        self._limits = application.settings.server
        self._dialect = dialect
        self._readiness = readiness

    async def answer(self, request: Request) -> Response:
        call = Call(
            request_id=request.state.request_id, deadline=monotonic() + self._limits.deadline, created=int(time())
        )
        try:
            body = await read_body(request, self._limits.max_body)
            started = perf_counter()
            asked = self._parse(body)
            call.notes.took("parse", (perf_counter() - started) * 1000)
            answer = await unless_disconnected(request, self._application.reranker.rerank(asked, call))
            self._readiness.succeeded(answer.model)
            return self._rendered(answer, asked, call)
        except RerankError as error:
            return error_response(error, self._dialect.render_error)
        except ClientDisconnect:
            return Response(status_code=499)
        except Exception:
            log.exception("request %s failed", call.request_id)
            failed = EngineError(f"rerankd failed on this request; the server's log has it as {call.request_id}.")
            return error_response(failed, self._dialect.render_error)

    def _parse(self, body: bytes) -> RerankRequest:
        asked = self._dialect.parse_request(body)
        if len(asked.documents) > self._limits.max_documents:
            raise TooLarge(
                f"`documents` has {len(asked.documents)} elements; {self._limits.max_documents} are allowed here "
                "(server.max_documents).",
                param="documents",
            )
        name = self._application.catalog.name_for(asked.model, self._dialect.default_model)
        return msgspec.structs.replace(asked, model=name)

    def _rendered(self, answer: RerankResponse, asked: RerankRequest, call: Call) -> Response:
        started = perf_counter()
        body = self._dialect.render_response(answer, asked, call)
        call.notes.took("render", (perf_counter() - started) * 1000)
        headers = {
            "x-rerankd-model": answer.model,
            "server-timing": ", ".join(f"{stage};dur={took:.2f}" for stage, took in call.notes.timings.items()),
        }
        if call.notes.channel is not None:
            headers["x-rerankd-channel"] = call.notes.channel
        if answer.warnings:
            headers["x-rerankd-warning"] = "; ".join(answer.warnings).encode("ascii", "replace").decode()
        return Response(body, media_type="application/json", headers=headers)
