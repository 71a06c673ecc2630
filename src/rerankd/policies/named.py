"""A reranker that is asked under one name, whatever the name that the request came with: for aliases and stand-ins."""

from __future__ import annotations

import msgspec

from rerankd.reranker import Reranker
from rerankd.types import Call, RerankRequest, RerankResponse


class Named:
    def __init__(self, inner: Reranker, name: str) -> None:
        self._inner = inner
        self._name = name

    async def rerank(self, request: RerankRequest, call: Call) -> RerankResponse:
        return await self._inner.rerank(msgspec.structs.replace(request, model=self._name), call)
