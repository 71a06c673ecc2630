"""The HTTP application: which routes there are, which of them need the key, and what /docs says of them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from fastapi import APIRouter, Depends, FastAPI
from fastapi_offline import FastAPIOffline
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from rerankd.app import Application
from rerankd.errors import BadSettings
from rerankd.server import openapi
from rerankd.server.access_log import AccessLog
from rerankd.server.admin import admin_routes
from rerankd.server.admin_check import AdminCheck
from rerankd.server.direct import Direct
from rerankd.server.errors import install_errors
from rerankd.server.handshakes import closed_handshakes, open_handshakes
from rerankd.server.health import Readiness, health_routes
from rerankd.server.keys import KeyCheck
from rerankd.server.metrics import Metrics, metrics_routes
from rerankd.server.request_ids import RequestIds
from rerankd.server.rerank import RerankEndpoint
from rerankd.server.routes import RerankRoute, rerank_routes
from rerankd.server.tracing import tracing
from rerankd.settings import Settings
from rerankd.version import __version__


def create_app(application: Application) -> FastAPI:
    """The ASGI application over `application`, which stays the caller's to close."""
    settings = application.settings
    keys, tracer = KeyCheck(settings, application.books.keys), tracing(settings.telemetry)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        async with application.running():
            await keys.start()
            try:
                yield
            finally:
                await keys.stop()
                if tracer is not None:
                    await asyncio.to_thread(tracer.close)

    app = FastAPIOffline(
        title="rerankd",
        version=__version__,
        summary="One rerank API for every reranker.",
        redoc_url=None,
        redirect_slashes=False,
        swagger_ui_oauth2_redirect_url="/docs/oauth2-redirect",
        lifespan=lifespan,
    )
    readiness = Readiness(application.bare, [card.name for card in application.local], application.trouble)
    endpoints = {
        route.path: RerankEndpoint(application, route, readiness, keys)
        for route in _strict_ones_known(rerank_routes(), settings)
    }
    app.router.routes[:0] = [Route(path, endpoint, methods=["POST"]) for path, endpoint in endpoints.items()]
    closed = APIRouter(dependencies=[Depends(keys)])
    closed.include_router(closed_handshakes(application))
    app.include_router(closed)
    app.include_router(admin_routes(application, keys))
    app.include_router(open_handshakes(keys))
    app.include_router(health_routes(readiness))
    metrics = Metrics(application)
    app.include_router(metrics_routes(metrics, None if settings.server.open_metrics else AdminCheck(keys)))
    _document(app)
    install_errors(app)
    framework = app.build_middleware_stack()

    async def others(scope: Scope, receive: Receive, send: Send) -> None:
        scope["app"] = app
        await framework(scope, receive, send)

    app.middleware_stack = RequestIds(Direct(endpoints, others), (AccessLog(), metrics), tracer)
    return app


def front(app: FastAPI) -> ASGIApp:
    """What a server is to call: past FastAPI's own front, whose telemetry looks at the environment at each request."""
    return app.middleware_stack or app


def _strict_ones_known(routes: list[RerankRoute], settings: Settings) -> list[RerankRoute]:
    unknown = set(settings.server.strict) - {route.path for route in routes}
    if unknown:
        raise BadSettings(f"server.strict: no format is spoken at {', '.join(sorted(unknown))}; see docs/dialects.md.")
    return routes


def _document(app: FastAPI) -> None:
    generate = app.openapi

    def described() -> dict[str, Any]:
        if app.openapi_schema is None:
            schema = generate()
            schema["paths"] = {**openapi.paths(rerank_routes()), **schema["paths"]}
            listed = schema.setdefault("components", {})
            listed.setdefault("schemas", {}).update(openapi.components())
            listed["securitySchemes"] = openapi.SECURITY
        return app.openapi_schema or schema

    app.openapi = described  # type: ignore[method-assign]
