"""A reranker that answers by the call's deadline, or says that it did not."""

from __future__ import annotations

import asyncio

from rerankd.errors import DeadlineExceeded
from rerankd.reranker import Reranker
from rerankd.types import Call, RerankRequest, RerankResponse


class Deadlined:
    def __init__(self, inner: Reranker) -> None:
        self._inner = inner

    async def rerank(self, request: RerankRequest, call: Call) -> RerankResponse:
        """Raises `DeadlineExceeded`; the work inside is cancelled by then."""
        try:
            async with asyncio.timeout(call.remaining()):
                return await self._inner.rerank(request, call)
        except TimeoutError:
            raise DeadlineExceeded("The answer was not ready within the time that a request has.") from None
