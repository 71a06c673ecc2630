"""What clients ask of a server before they rank: model lists, Xinference's cluster, TEI's `/info`, and whether it is up.

They are at the root and under the prefix of each format, so that one changed base URL is enough.
"""

from __future__ import annotations

import msgspec
from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from rerankd.app import Application
from rerankd.catalog import Catalog
from rerankd.dialects.directory import DIALECTS
from rerankd.server import openapi
from rerankd.server.keys import KeyCheck
from rerankd.server.models import JSON, Models
from rerankd.server.routes import prefixes
from rerankd.settings import Settings
from rerankd.version import __version__

UNBOUNDED = 2**31 - 1
"""What TEI's clients are told is the longest input of a model that takes any."""


def closed_handshakes(application: Application) -> APIRouter:
    """Those that need the key where there is one."""
    router = APIRouter(tags=["models"])
    models = Models(lambda: application.catalog)

    async def described(_: Request) -> Response:
        """What Text Embeddings Inference says of itself, about the model that its clients get."""
        return Response(tei_info(application.catalog, application.settings), media_type=JSON)

    for prefix in ("", *(f"/{prefix}" for prefix in prefixes())):
        for path in ("/v1/models", *(("/models",) if prefix else ())):
            shown = path == "/v1/models" and not prefix
            _get(router, f"{prefix}{path}", models.all, "The models served, and their aliases", shown=shown)
            _get(router, f"{prefix}{path}/{{name:path}}", models.one, "One of the models served", shown=shown)
    for prefix in ("", "/tei"):
        _get(router, f"{prefix}/info", described, "The model, as TEI describes it", shown=not prefix)
    return router


def open_handshakes(keys: KeyCheck) -> APIRouter:
    """Those that clients make before they have shown a key."""
    router = APIRouter(tags=["models"])

    async def cluster(_: Request) -> Response:
        """Whether Xinference's clients need a key here."""
        await keys.look()
        return Response(msgspec.json.encode({"auth": keys.needed}), media_type=JSON)

    for prefix in ("", "/xinference"):
        _get(router, f"{prefix}/v1/cluster/auth", cluster, "Whether a key is needed", shown=not prefix)
    return router


def tei_info(catalog: Catalog, settings: Settings) -> bytes:
    name = catalog.name_for(None, DIALECTS["tei"].default_model) or ""
    root = catalog.aliases.get(name, name)
    card = next((card for card in catalog.cards if card.name == root), None)
    return msgspec.json.encode(
        {
            "model_id": name,
            "model_sha": None,
            "model_dtype": card.dtype if card else "float32",
            "model_type": {"reranker": {"id2label": {"0": "LABEL_0"}, "label2id": {"LABEL_0": 0}}},
            "max_concurrent_requests": 512,
            "max_input_length": (card.max_length if card else None) or UNBOUNDED,
            "max_batch_tokens": UNBOUNDED,
            "max_client_batch_size": settings.server.max_documents,
            "auto_truncate": True,
            "tokenization_workers": 1,
            "version": __version__,
        }
    )


def _get(router: APIRouter, path: str, answer: object, summary: str, *, shown: bool) -> None:
    router.add_api_route(
        path,
        answer,  # type: ignore[arg-type]
        summary=summary,
        response_class=Response,
        include_in_schema=shown,
        openapi_extra=openapi.CLOSED,
    )
