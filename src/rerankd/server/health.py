"""Whether the server can rank now: each local model has ranked a document lately, in a request or in a probe of ours, and
its device is not in trouble.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from time import monotonic

import msgspec
from fastapi import APIRouter
from starlette.responses import Response

from rerankd.errors import RerankError
from rerankd.reranker import Reranker
from rerankd.server.routes import prefixes
from rerankd.types import Call, Document, RerankRequest

JSON = "application/json"

log = logging.getLogger("rerankd.server")

READY = ("/health/ready", "/health", "/healthz", *(f"/{prefix}/health" for prefix in prefixes()))
"""Under the names that other servers have for it, too."""
LATELY = 15.0
PROBE_TIME = 5.0
PROBE = RerankRequest(query="ready", documents=(Document("ready"),))
"""So short that it goes in front of whatever the device is working on."""

Trouble = Callable[[str], str | None]
"""What keeps the device of a model from working, or None."""


def no_trouble(_: str) -> str | None:
    return None


class Readiness:
    def __init__(self, reranker: Reranker, models: list[str], trouble: Trouble = no_trouble) -> None:
        self._reranker = reranker
        self._trouble = trouble
        self._last = dict.fromkeys(models, float("-inf"))
        self._probing = {model: asyncio.Lock() for model in models}

    def succeeded(self, model: str) -> None:
        """A request was ranked by `model` just now."""
        if model in self._last:
            self._last[model] = monotonic()

    async def states(self) -> dict[str, bool]:
        """For each model whether it ranks; a model that did so within the last 15 s is not asked again."""
        answers = await asyncio.gather(*(self._ranks(model) for model in self._last))
        return dict(zip(self._last, answers, strict=True))

    async def _ranks(self, model: str) -> bool:
        trouble = self._trouble(model)
        if trouble is not None:
            log.warning("model %s is not ready: %s", model, trouble)
            self._last[model] = float("-inf")  # when the trouble is over, that is to be shown
            return False
        async with self._probing[model]:
            if monotonic() - self._last[model] < LATELY:
                return True
            call = Call(request_id="probe", deadline=monotonic() + PROBE_TIME)
            request = RerankRequest(query=PROBE.query, documents=PROBE.documents, model=model)
            try:
                await self._reranker.rerank(request, call)
            except RerankError:
                return False
            except Exception:
                log.exception("model %s failed on a probe", model)
                return False
            self._last[model] = monotonic()
            return True


def health_routes(readiness: Readiness) -> APIRouter:
    router = APIRouter(tags=["health"])

    @router.get("/health/live", summary="The process answers", response_class=Response)
    async def live() -> Response:
        return Response(b'{"status":"live"}', media_type=JSON)

    async def ready() -> Response:
        """503 while one of them cannot."""
        models = await readiness.states()
        status = "ready" if all(models.values()) else "not ready"
        body = msgspec.json.encode({"status": status, "models": models})
        return Response(body, 200 if status == "ready" else 503, media_type=JSON)

    for path in READY:
        router.add_api_route(
            path,
            ready,
            summary="Every local model has ranked a document lately",
            response_class=Response,
            responses={503: {"description": "One of them cannot; which is said."}},
            include_in_schema=path == READY[0],
        )

    return router
