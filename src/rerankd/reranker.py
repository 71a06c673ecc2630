"""The one seam: whatever ranks documents, or wraps something that does, has this one method.

A local model is a Reranker, and so is each policy around it. Nothing is optional, nothing is asked for beside it:
facts about a model live in its ModelCard, and closing belongs to whoever built the object.
"""

from __future__ import annotations

from typing import Protocol

from rerankd.types import Call, RerankRequest, RerankResponse


class Reranker(Protocol):
    async def rerank(self, request: RerankRequest, call: Call) -> RerankResponse:
        """Score `request.documents` for `request.query`.

        Raises a `RerankError` and nothing else. Cancelling the awaiting task takes the work out of every queue.
        """
        ...
