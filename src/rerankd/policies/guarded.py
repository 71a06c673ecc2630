"""A reranker that is not asked while its breaker says so, and whose breaker hears how each call ended."""

from __future__ import annotations

from rerankd.errors import UpstreamError
from rerankd.policies.breaker import Breaker
from rerankd.reranker import Reranker
from rerankd.types import Call, RerankRequest, RerankResponse


class Guarded:
    def __init__(self, inner: Reranker, breaker: Breaker) -> None:
        self._inner = inner
        self._breaker = breaker

    async def rerank(self, request: RerankRequest, call: Call) -> RerankResponse:
        """Raises what `Breaker.admit` raises, at once and without a call.

        Only an `UpstreamError` is held against the channel: a caller's mistake, a deadline and a cancellation are not.
        """
        permit = self._breaker.admit()
        try:
            response = await self._inner.rerank(request, call)
        except UpstreamError as error:
            self._breaker.failed(permit, error)
            raise
        except BaseException:
            self._breaker.released(permit)
            raise
        self._breaker.succeeded(permit)
        return response
