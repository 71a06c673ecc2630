"""The HTTP application: which routes there are, which of them need the key, and what /docs says of them."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Depends, FastAPI
from fastapi_offline import FastAPIOffline
from starlette.responses import Response

from rerankd.app import Application
from rerankd.dialects.base import Dialect
from rerankd.dialects.local import Local
from rerankd.dialects.superset import Superset
from rerankd.server import openapi
from rerankd.server.errors import install_errors
from rerankd.server.health import Readiness, health_routes
from rerankd.server.keys import KeyCheck
from rerankd.server.models import models_route
from rerankd.server.request_ids import RequestIds
from rerankd.server.rerank import RerankEndpoint
from rerankd.version import __version__

ROUTES: dict[str, Dialect] = {"/rerank": Local(), "/v1/rerank": Superset()}


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
        models_route(application.catalog),
        summary="The models served, and their aliases",
        tags=["models"],
        response_class=Response,
        openapi_extra=openapi.CLOSED,
    )
    app.include_router(closed)
    app.include_router(health_routes(readiness))
    _document(app)
    install_errors(app)
    app.add_middleware(RequestIds)
    return app


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
