"""A reranker that hands each request to the one that serves the model it asks for."""

from __future__ import annotations

from collections.abc import Mapping

from rerankd.errors import ModelNotFound
from rerankd.reranker import Reranker
from rerankd.types import Call, RerankRequest, RerankResponse

NAMES_SHOWN = 20
LONGEST_SHOWN = 200


class Routed:
    def __init__(self, routes: Mapping[str, Reranker]) -> None:
        """`routes` has every name that may be asked for, aliases included."""
        self._routes = routes

    async def rerank(self, request: RerankRequest, call: Call) -> RerankResponse:
        """Raises `ModelNotFound`, listing what is served."""
        route = self._routes.get(request.model or "")
        if route is None:
            served = sorted(self._routes)
            listed = ", ".join(served[:NAMES_SHOWN]) + (" and others" if len(served) > NAMES_SHOWN else "")
            asked = (
                f"There is no model {request.model[:LONGEST_SHOWN]!r} here"
                if request.model
                else "No model was asked for"
            )
            raise ModelNotFound(f"{asked}; served are: {listed or 'none'}.", param="model")
        return await route.rerank(request, call)
