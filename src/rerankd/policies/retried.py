"""A channel that is asked a second time where that may help, and a further time at all only where the budget allows it.

Ranking changes nothing, so every request may be repeated; what may not be multiplied is the load on an upstream in trouble.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from random import Random

from rerankd.errors import Overloaded, UpstreamBusy, UpstreamError, UpstreamUnavailable
from rerankd.policies.breaker import Breaker, rest_asked_for
from rerankd.policies.retry_budget import MOST_CALLS, RetryBudget
from rerankd.reranker import Reranker
from rerankd.types import Call, RerankRequest, RerankResponse

JITTER = (0.05, 0.25)
LONGEST_WAIT = 2.0
COME_BACK = 1.0


class Retried:
    def __init__(
        self,
        inner: Reranker,
        budget: RetryBudget,
        breaker: Breaker,
        *,
        chance: Random | None = None,
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
    ) -> None:
        """`budget` is shared by all channels of the model; `breaker` is the one that stands around this policy.

        The breaker is asked because a probe is one call and not two, and told because a rest that the upstream wants binds
        every request from now on, not only the one that waits for its end.
        """
        self._inner = inner
        self._budget = budget
        self._breaker = breaker
        self._chance = chance or Random()  # noqa: S311  (it spreads calls, and guards nothing)
        self._sleep = sleep

    async def rerank(self, request: RerankRequest, call: Call) -> RerankResponse:
        """Raises `Overloaded`, without a call, where the request has had its calls or the budget is spent."""
        self._admit(call)
        try:
            return await self._inner.rerank(request, call)
        except (UpstreamUnavailable, UpstreamBusy) as error:
            if not await self._waited(error, call):
                raise
        return await self._inner.rerank(request, call)

    def _admit(self, call: Call) -> None:
        if call.notes.attempts == 0:
            self._budget.first_call()
        elif call.notes.attempts >= MOST_CALLS or not self._budget.onwards():
            raise Overloaded("Too many calls have failed lately to make one more.", retry_after=COME_BACK)

    async def _waited(self, error: UpstreamError, call: Call) -> bool:
        """Whether a second call may go out, after the time that has to pass before it."""
        rest = rest_asked_for(error)
        pause = rest + self._chance.uniform(*JITTER)
        left = call.remaining()
        if call.notes.attempts + call.spare >= MOST_CALLS:
            return False
        if rest > LONGEST_WAIT or (left is not None and left <= pause):
            return False
        if not self._breaker.closed or not self._budget.again():
            return False
        self._breaker.rest(rest)
        await self._sleep(pause)
        return self._breaker.closed
