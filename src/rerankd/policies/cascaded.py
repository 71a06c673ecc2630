"""A reranker of two: a cheap one sees all documents, and a good one ranks the best `keep` of them.

Scores of two models do not compare, so an answer holds what the good one scored and nothing else, and says how many it left.
"""

from __future__ import annotations

import msgspec

from rerankd.errors import ClientError
from rerankd.policies.calls import call_for, carry_over
from rerankd.policies.parts import in_whole, part_of, said_of, usage_of
from rerankd.reranker import Reranker
from rerankd.types import Call, RerankRequest, RerankResponse
from rerankd.validate import validate


class Cascaded:
    def __init__(self, first: Reranker, then: Reranker, keep: int) -> None:
        self._first = first
        self._then = then
        self._keep = keep

    async def rerank(self, request: RerankRequest, call: Call) -> RerankResponse:
        """At most `keep` results; `first` is not asked where there are no more documents than that."""
        if len(request.documents) <= self._keep:
            return await self._then.rerank(request, call)
        trimmed = await self._trim(request, call)
        # In the request's order, for a model whose scores depend on the order of what it is given.
        kept = sorted(result.index for result in validate(trimmed.results, self._trimming(request)))
        ranked = await self._rank(request, kept, call)
        return RerankResponse(
            model=ranked.model,
            results=tuple(in_whole(ranked.results, part_of(request, kept), kept)),
            usage=usage_of([trimmed.usage, ranked.usage]),
            warnings=self._warnings(request, trimmed, ranked),
        )

    def _trimming(self, request: RerankRequest) -> RerankRequest:
        """Nobody sees the scores of `first`, so their scale does not matter, nor has it vectors to give."""
        return msgspec.structs.replace(
            request, top_n=self._keep, return_documents=False, return_embeddings=False, raw_scores=None
        )

    async def _trim(self, request: RerankRequest, call: Call) -> RerankResponse:
        own = call_for(call)
        try:
            return await self._first.rerank(self._trimming(request), own)
        finally:
            carry_over(own.notes, call.notes)

    async def _rank(self, request: RerankRequest, kept: list[int], call: Call) -> RerankResponse:
        """With attempts of its own: what it took to reach `first` is not held against `then`."""
        own = call_for(call)
        try:
            return await self._then.rerank(part_of(request, kept), own)
        except ClientError as error:
            raise said_of(self._where(), error) from error
        finally:
            carry_over(own.notes, call.notes)

    def _where(self) -> str:
        return f"the {self._keep} documents that were kept, counted in the order of the request"

    def _warnings(self, request: RerankRequest, trimmed: RerankResponse, ranked: RerankResponse) -> tuple[str, ...]:
        left = len(request.documents) - self._keep
        return (
            f"{left} of {len(request.documents)} documents were not reranked: {trimmed.model} kept the best {self._keep}",
            *(f"{trimmed.model}, which chose them: {warning}" for warning in trimmed.warnings),
            *(f"{self._where()}: {warning}" for warning in ranked.warnings),
        )
