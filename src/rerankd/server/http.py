"""The HTTP application: which routes there are, which of them need the key, and what /docs says of them."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Depends, FastAPI
from fastapi_offline import FastAPIOffline
from starlette.routing import Route

from rerankd.app import Application
from rerankd.errors import BadSettings
from rerankd.server import openapi
from rerankd.server.admin import admin_routes
from rerankd.server.direct import Direct
from rerankd.server.errors import install_errors
from rerankd.server.handshakes import closed_handshakes, open_handshakes
from rerankd.server.health import Readiness, health_routes
from rerankd.server.keys import KeyCheck
from rerankd.server.request_ids import RequestIds
from rerankd.server.rerank import RerankEndpoint
from rerankd.server.routes import RerankRoute, rerank_routes
from rerankd.settings import Settings
from rerankd.version import __version__


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
    readiness = Readiness(application.bare, [card.name for card in application.local], application.trouble)
    keys = KeyCheck(application.settings)
    endpoints = {
        route.path: RerankEndpoint(application, route, readiness, keys)
        for route in _strict_ones_known(rerank_routes(), application.settings)
    }
    app.router.routes[:0] = [Route(path, endpoint.answer, methods=["POST"]) for path, endpoint in endpoints.items()]
    closed = APIRouter(dependencies=[Depends(keys)])
    closed.include_router(closed_handshakes(application))
    app.include_router(closed)
    app.include_router(admin_routes(application))
    app.include_router(open_handshakes(key_needed=keys.needed))
    app.include_router(health_routes(readiness))
    _document(app)
    install_errors(app)
    app.middleware_stack = RequestIds(Direct(endpoints, app.build_middleware_stack()))
    return app


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
