"""A reranker that answers by the call's deadline, or says that it did not."""

from __future__ import annotations

from rerankd.errors import DeadlineExceeded
from rerankd.policies.time_limit import TimeLimit
from rerankd.reranker import Reranker
from rerankd.types import Call, RerankRequest, RerankResponse


class Deadlined:
    def __init__(self, inner: Reranker) -> None:
        self._inner = inner

    async def rerank(self, request: RerankRequest, call: Call) -> RerankResponse:
        """Raises `DeadlineExceeded`; the work inside is cancelled by then."""
        left = call.remaining()
        if left is None:
            return await self._inner.rerank(request, call)
        with TimeLimit(left, _exceeded):
            return await self._inner.rerank(request, call)


def _exceeded() -> DeadlineExceeded:
    return DeadlineExceeded("The answer was not ready within the time that a request has.")
