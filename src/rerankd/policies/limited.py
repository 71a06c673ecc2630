"""A reranker that lets in what the caller's key may use: it takes before any work is done, and settles for what it was."""

from __future__ import annotations

from rerankd.accounts import NO_QUOTAS, Caller
from rerankd.estimate import estimated_request
from rerankd.policies.counters import Counters
from rerankd.reranker import Reranker
from rerankd.reservations import Refusal, Reservation, refuse_impossible
from rerankd.types import LOCAL, Call, RerankRequest, RerankResponse

BEYOND = 60.0
"""Seconds after its deadline for which what a request has taken is kept for it, where its process has died."""


class Limited:
    """`deadline` is in seconds, for calls that have none. Who has no limits is not seen at all."""

    def __init__(self, inner: Reranker, counters: Counters, deadline: float) -> None:
        self._inner = inner
        self._counters = counters
        self._deadline = deadline

    async def rerank(self, request: RerankRequest, call: Call) -> RerankResponse:
        """Raises `RateLimited` or `QuotaExceeded` where too little is left, `TooLarge` where it never would be enough, and
        `StoreUnavailable` where nobody can say what is left of a quota.
        """
        caller = call.caller
        if caller is None or not caller.limited:
            return await self._inner.rerank(request, call)
        reservation = await self._reserved(caller, request, call)
        try:
            answer = await self._inner.rerank(request, call)
        except BaseException:  # a caller that went away, too
            self._counters.release(reservation)
            raise
        self._counters.settle(reservation, _counted(answer, reservation, call), call.notes.sequence)
        return answer

    async def _reserved(self, caller: Caller, request: RerankRequest, call: Call) -> Reservation:
        documents = len(request.documents)
        by_tokens = caller.limits.tokens is not None or caller.quotas != NO_QUOTAS
        tokens = estimated_request(request) if by_tokens else 0
        refuse_impossible(caller, documents, tokens)
        left = call.remaining()
        seconds = max(0.0, self._deadline if left is None else left) + BEYOND
        outcome = await self._counters.reserve(caller, documents=documents, tokens=tokens, seconds=seconds)
        call.notes.allowances = outcome.allowances
        if isinstance(outcome, Refusal):
            raise outcome.error
        return outcome


def _counted(answer: RerankResponse, reservation: Reservation, call: Call) -> int:
    """A channel that says it took nothing has not counted: the estimate stands."""
    nothing = not answer.usage.total_tokens and call.notes.channel != LOCAL
    return reservation.tokens if nothing else answer.usage.total_tokens
