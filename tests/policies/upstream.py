"""An upstream that fails as it is told, and a clock that goes as it is told, for tests of what is done about failures."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import chain, repeat
from random import Random

from rerankd.policies.breaker import Breaker
from rerankd.policies.guarded import Guarded
from rerankd.policies.retried import Retried
from rerankd.policies.retry_budget import RetryBudget
from rerankd.reranker import Reranker
from rerankd.types import Call, RerankRequest, RerankResponse
from tests.conftest import FakeReranker

Outcome = BaseException | None


def seeded(seed: int) -> Random:
    return Random(seed)  # noqa: S311  (the same chances each time are meant)


class Clock:
    def __init__(self, now: float = 1000.0) -> None:
        self.now = now
        self.pauses: list[float] = []

    def __call__(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        self.pauses.append(seconds)
        self.now += seconds


class Upstream:
    """Each call takes the next outcome, None being an answer; when none is left it answers. It counts as a channel does."""

    def __init__(self, clock: Clock, outcomes: Iterable[Outcome] | Callable[[], Outcome] = ()) -> None:
        self._clock = clock
        self._outcomes: Iterator[Outcome] = (
            iter(outcomes, StopIteration) if callable(outcomes) else chain(outcomes, repeat(None))
        )
        self.called_at: list[float] = []

    @property
    def calls(self) -> int:
        return len(self.called_at)

    async def rerank(self, request: RerankRequest, call: Call) -> RerankResponse:
        call.notes.attempts += 1
        self.called_at.append(self._clock.now)
        outcome = next(self._outcomes)
        if outcome is not None:
            raise outcome
        return await FakeReranker().rerank(request, call)


def channel(inner: Reranker, clock: Clock, budget: RetryBudget, breaker: Breaker | None = None) -> Reranker:
    """`inner` with what stands around a channel."""
    breaker = breaker or Breaker(clock=clock)
    return Guarded(Retried(inner, budget, breaker, sleep=clock.sleep), breaker)


def new_call(deadline: float | None = None) -> Call:
    return Call("the-request", deadline=deadline)
