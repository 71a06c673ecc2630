"""The routes: a body becomes a request, the pipeline answers it, and the answer or the error becomes bytes and headers.

The rerank routes take the raw request, so that its bytes are counted, decoded once and copied never.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from time import monotonic, perf_counter, time
from typing import Any

import msgspec
from fastapi import APIRouter, Depends, FastAPI
from fastapi_offline import FastAPIOffline
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from rerankd.app import Application
from rerankd.dialects import root_error
from rerankd.dialects.base import Dialect
from rerankd.dialects.local import Local
from rerankd.dialects.superset import Superset
from rerankd.errors import BadRequest, ClientError, EngineError, MethodNotAllowed, NotFound, RerankError, TooLarge
from rerankd.server import openapi
from rerankd.server.bodies import read_body
from rerankd.server.cancellation import unless_disconnected
from rerankd.server.health import Readiness
from rerankd.server.keys import KeyCheck
from rerankd.server.request_ids import RequestIds
from rerankd.types import Call, RerankRequest, RerankResponse
from rerankd.version import __version__

log = logging.getLogger("rerankd.server")

ROUTES: dict[str, Dialect] = {"/rerank": Local(), "/v1/rerank": Superset()}
JSON = "application/json"


def create_app(application: Application) -> FastAPI:
    """The ASGI application over `application`, which stays the caller's to close."""
    app = FastAPIOffline(
        title="rerankd",
        version=__version__,
        summary="One rerank API for every reranker.",
        redoc_url=None,
        redirect_slashes=False,
        swagger_ui_oauth2_redirect_url="/docs/oauth2-redirect",
    )
    cards = application.catalog.cards
    readiness = Readiness(application.reranker, [card.name for card in cards])
    closed = APIRouter(dependencies=[Depends(KeyCheck(application.settings))])
    for path, dialect in ROUTES.items():
        endpoint = RerankEndpoint(application, dialect, readiness)
        closed.add_api_route(
            path,
            endpoint.answer,
            methods=["POST"],
            summary=f"Put documents in order of relevance to a query ({dialect.name} format)",
            operation_id=f"rerank_{dialect.name}",
            tags=["rerank"],
            response_class=Response,
            openapi_extra=openapi.operation(dialect),
        )
    closed.add_api_route(
        "/v1/models",
        _models_route(application),
        summary="The models served, and their aliases",
        tags=["models"],
        response_class=Response,
        openapi_extra=openapi.CLOSED,
    )
    app.include_router(closed)
    app.include_router(_health_routes(readiness))
    _document(app)
    _install_errors(app)
    app.add_middleware(RequestIds)
    return app


class RerankEndpoint:
    """One rerank route: `dialect` in, the pipeline, `dialect` out."""

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
        return Response(body, media_type=JSON, headers=headers)


def error_response(error: RerankError, render: Callable[[RerankError], tuple[int, bytes]]) -> Response:
    status, body = render(error)
    headers = {}
    if error.retry_after is not None:
        headers["retry-after"] = str(max(1, round(error.retry_after)))
    if status == 401:
        headers["www-authenticate"] = "Bearer"
    return Response(body, status, headers, JSON)


def _models_route(application: Application) -> Callable[[], Awaitable[Response]]:
    catalog = application.catalog
    started = int(time())
    cards = {card.name: card for card in catalog.cards}
    listed = [
        {
            "id": name,
            "object": "model",
            "created": started,
            "owned_by": "rerankd",
            "root": root,
            "type": "rerank",
            "score": cards[root].score,
            "max_length": cards[root].max_length,
        }
        for name, root in [*((name, name) for name in cards), *catalog.aliases.items()]
    ]
    body = msgspec.json.encode({"object": "list", "data": listed})

    async def models() -> Response:
        """OpenAI's list; `root` is the model behind an alias, `score` the scale on which it answers."""
        return Response(body, media_type=JSON)

    return models


def _health_routes(readiness: Readiness) -> APIRouter:
    router = APIRouter(prefix="/health", tags=["health"])

    @router.get("/live", summary="The process answers", response_class=Response)
    async def live() -> Response:
        return Response(b'{"status":"live"}', media_type=JSON)

    @router.get(
        "/ready",
        summary="Every local model has ranked a document lately",
        response_class=Response,
        responses={503: {"description": "One of them cannot; which is said."}},
    )
    async def ready() -> Response:
        """503 while one of them cannot."""
        models = await readiness.states()
        status = "ready" if all(models.values()) else "not ready"
        body = msgspec.json.encode({"status": status, "models": models})
        return Response(body, 200 if status == "ready" else 503, media_type=JSON)

    return router


def _document(app: FastAPI) -> None:
    generate = app.openapi

    def described() -> dict[str, Any]:
        if app.openapi_schema is None:
            schema = generate()
            listed = schema.setdefault("components", {})
            listed.setdefault("schemas", {}).update(openapi.components(list(ROUTES.values())))
            listed["securitySchemes"] = openapi.SECURITY
        return app.openapi_schema or schema

    app.openapi = described  # type: ignore[method-assign]


def _install_errors(app: FastAPI) -> None:
    async def rerank_error(_: Request, error: RerankError) -> Response:
        return error_response(error, root_error.render)

    async def http_error(request: Request, error: HTTPException) -> Response:
        response = error_response(_of_status(request, error.status_code), root_error.render)
        response.headers.update(error.headers or {})
        return response

    async def any_error(request: Request, _: Exception) -> Response:
        response = error_response(EngineError("rerankd failed on this request; its log says more."), root_error.render)
        response.headers["x-request-id"] = request.state.request_id  # this one is outside of RequestIds
        return response

    app.exception_handler(RerankError)(rerank_error)
    app.exception_handler(HTTPException)(http_error)
    app.exception_handler(Exception)(any_error)


def _of_status(request: Request, status: int) -> ClientError:
    if status == 404:
        return NotFound(f"There is nothing at {request.scope['path'][:200]}; /docs lists what is.")
    if status == 405:
        return MethodNotAllowed(f"{request.method} is not for {request.scope['path'][:200]}; /docs says what is.")
    return BadRequest("The request cannot be understood.")
