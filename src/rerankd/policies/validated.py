"""A reranker whose answers are checked, put in order, cut to `top_n` and given the caller's own documents."""

from __future__ import annotations

import msgspec

from rerankd.reranker import Reranker
from rerankd.types import Call, RerankRequest, RerankResponse
from rerankd.validate import validate


class Validated:
    def __init__(self, inner: Reranker, keep: int | None = None) -> None:
        """`keep` is how many results `inner` has at most, where it is a cascade, whose answers are shorter by design."""
        self._inner = inner
        self._keep = keep

    async def rerank(self, request: RerankRequest, call: Call) -> RerankResponse:
        """Raises `UpstreamMalformed` where the answer is no answer."""
        response = await self._inner.rerank(request, call)
        return msgspec.structs.replace(response, results=validate(response.results, request, self._keep))
