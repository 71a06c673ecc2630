"""The HTTP application: which routes there are, which of them need the key, and what /docs says of them."""

from __future__ import annotations

import re
from typing import Any

from fastapi import APIRouter, Depends, FastAPI
from fastapi_offline import FastAPIOffline
from starlette.responses import Response

from rerankd.app import Application
from rerankd.errors import BadSettings
from rerankd.server import openapi
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
    cards = application.catalog.cards
    readiness = Readiness(application.reranker, [card.name for card in cards], application.trouble)
    keys = KeyCheck(application.settings)
    closed = APIRouter(dependencies=[Depends(keys)])
    for route in _strict_ones_known(rerank_routes(), application.settings):
        _add(closed, route, RerankEndpoint(application, route, readiness))
    closed.include_router(closed_handshakes(application.catalog, application.settings))
    app.include_router(closed)
    app.include_router(open_handshakes(key_needed=keys.needed))
    app.include_router(health_routes(readiness))
    _document(app)
    install_errors(app)
    app.add_middleware(RequestIds)
    return app


def _add(router: APIRouter, route: RerankRoute, endpoint: RerankEndpoint) -> None:
    dialect = route.dialect
    router.add_api_route(
        route.path,
        endpoint.answer,
        methods=["POST"],
        summary=f"Put documents in order of relevance to a query ({dialect.title})",
        operation_id="rerank_" + re.sub(r"\W+", "_", route.path.strip("/")),
        tags=["rerank" if not dialect.prefix else f"rerank: {dialect.prefix}"],
        response_class=Response,
        include_in_schema=route.warning is None and "{" not in route.path,
        openapi_extra=openapi.operation(dialect),
    )


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
            listed = schema.setdefault("components", {})
            listed.setdefault("schemas", {}).update(openapi.components())
            listed["securitySchemes"] = openapi.SECURITY
        return app.openapi_schema or schema

    app.openapi = described  # type: ignore[method-assign]
