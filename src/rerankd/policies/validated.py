"""A reranker whose answers are checked, put in order, cut to `top_n` and given the caller's own documents."""

from __future__ import annotations

import msgspec

from rerankd.reranker import Reranker
from rerankd.types import Call, RerankRequest, RerankResponse
from rerankd.validate import validate


class Validated:
    def __init__(self, inner: Reranker) -> None:
        self._inner = inner

    async def rerank(self, request: RerankRequest, call: Call) -> RerankResponse:
        """Raises `UpstreamMalformed` where the answer is no answer."""
        response = await self._inner.rerank(request, call)
        return msgspec.structs.replace(response, results=validate(response.results, request))
