"""A reranker that a caller may ask for the models of its key alone, under whatever name they go."""

from __future__ import annotations

from collections.abc import Mapping

from rerankd.accounts import Caller
from rerankd.errors import Forbidden
from rerankd.reranker import Reranker
from rerankd.types import Call, RerankRequest, RerankResponse

NAMES_SHOWN = 20
LONGEST_SHOWN = 200


class Permitted:
    def __init__(self, inner: Reranker, aliases: Mapping[str, str]) -> None:
        """`aliases` maps a further name to a model's: who may use the one may use the other."""
        self._inner = inner
        self._aliases = aliases

    async def rerank(self, request: RerankRequest, call: Call) -> RerankResponse:
        """Raises `Forbidden`, listing what the key may use."""
        caller = call.caller
        if caller is not None and caller.models and not may_use(caller, request.model or "", self._aliases):
            asked = f"the model {request.model[:LONGEST_SHOWN]!r}" if request.model else "a request without a model"
            listed = ", ".join(name[:LONGEST_SHOWN] for name in caller.models[:NAMES_SHOWN])
            others = " and others" if len(caller.models) > NAMES_SHOWN else ""
            raise Forbidden(f"This key is not for {asked}; it is for: {listed}{others}.", param="model")
        return await self._inner.rerank(request, call)


def may_use(caller: Caller, model: str, aliases: Mapping[str, str]) -> bool:
    """Whether the key lists the model, by this name or by another one of it, or lists none at all."""
    if not caller.models or model in caller.models:
        return True
    behind = aliases.get(model, model)
    return any(aliases.get(name, name) == behind for name in caller.models)
