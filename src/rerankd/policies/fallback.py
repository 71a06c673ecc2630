"""A reranker that asks the next of several where one has failed, and tells the caller in our own words when all have."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import inf
from random import Random
from time import monotonic

import msgspec

from rerankd.errors import (
    DeadlineExceeded,
    EngineError,
    Overloaded,
    RerankError,
    UpstreamBusy,
    UpstreamError,
    UpstreamMalformed,
    UpstreamRefused,
    UpstreamUnavailable,
    UpstreamUnsuited,
)
from rerankd.policies.breaker import rest_asked_for
from rerankd.policies.retry_budget import RetryBudget
from rerankd.reranker import Reranker
from rerankd.types import Call, RerankRequest, RerankResponse

COME_BACK = 1.0
REASONS: Sequence[tuple[type[RerankError], str]] = (
    (UpstreamMalformed, "gave an answer that is none"),
    (UpstreamUnavailable, "could not be reached"),
    (UpstreamBusy, "was busy"),
    (UpstreamRefused, "refused our key"),
    (UpstreamUnsuited, "does not serve this model"),
    (Overloaded, "had no capacity"),
    (RerankError, "failed"),
)


@dataclass(frozen=True, slots=True, eq=False)
class Choice:
    """One that can answer. Those of a higher priority are asked first, equals by chance, in proportion to their weight.

    `ready` says whether a call to it would be let through now.
    """

    name: str
    priority: int
    weight: float
    reranker: Reranker
    ready: Callable[[], bool] = lambda: True


class Fallback:
    def __init__(
        self,
        choices: Sequence[Choice],
        budget: RetryBudget | None = None,
        *,
        chance: Random | None = None,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        """`budget` is the one that the channels share, where all choices are channels of one model.

        How often a failed request may be asked elsewhere is limited. So when that is nearly spent, a request begins with the
        choice that has been without failure for longest: a channel that fails one request in three then costs no answers,
        and as soon as something is left again, the order is the configured one. Without a budget it always is; choices of
        different models want that.
        """
        self._choices = choices
        self._budget = budget
        self._chance = chance or Random()  # noqa: S311  (it shares out load, and guards nothing)
        self._clock = clock
        self._failed_at: dict[Choice, float] = {}

    async def rerank(self, request: RerankRequest, call: Call) -> RerankResponse:
        """Raises, when nobody could answer: `DeadlineExceeded` where there is no time left, `Overloaded` where all said when
        to come back, else `UpstreamError`. What is not theirs to answer for, such as a `ClientError`, ends it at once.
        """
        failures: list[RerankError] = []
        order = self._order()
        for place, choice in enumerate(order, 1):
            _check_time(call)
            before = call.notes.attempts
            try:
                return await choice.reranker.rerank(request, self._sparing(call, order[place:]))
            except (UpstreamError, Overloaded, EngineError) as error:
                failures.append(error)
                if call.notes.attempts > before:
                    self._failed_at[choice] = self._clock()
        _check_time(call)
        raise _verdict(failures) from None

    def _sparing(self, call: Call, others: Sequence[Choice]) -> Call:
        """A second call to a channel is not to be the one that another, which may be well, would have had."""
        if self._budget is None or not others:
            return call
        return msgspec.structs.replace(call, spare=sum(other.ready() for other in others))

    def _order(self) -> Sequence[Choice]:
        if len(self._choices) == 1:
            return self._choices
        order = sorted(  # the first of racing exponential clocks is each with the probability of its share in the rates
            self._choices, key=lambda choice: (-choice.priority, self._chance.expovariate(choice.weight))
        )
        if self._budget is not None and self._budget.low:
            order.sort(key=lambda choice: self._failed_at.get(choice, -inf))
        return order


def _check_time(call: Call) -> None:
    left = call.remaining()
    if left is not None and left <= 0:
        raise DeadlineExceeded("The answer was not ready within the time that a request has.")


def _verdict(failures: Sequence[RerankError]) -> RerankError:
    waits = [_wait(failure) for failure in failures]
    known = [wait for wait in waits if wait is not None]
    if failures and len(known) == len(failures):
        return Overloaded("Everything that could answer is busy or resting.", retry_after=min(known))
    if failures and all(isinstance(failure, EngineError) for failure in failures):
        return failures[-1]
    said = "; ".join(dict.fromkeys(f"one {_reason(failure)}" for failure in failures))
    return UpstreamError(f"No upstream could answer: {said or 'there is none'}.", retry_after=min(known, default=None))


def _wait(failure: RerankError) -> float | None:
    """Seconds after which to come back, where the failure says so."""
    if isinstance(failure, UpstreamBusy):
        return rest_asked_for(failure)
    if isinstance(failure, Overloaded) and failure.retry_after is None:
        return COME_BACK
    return failure.retry_after


def _reason(failure: RerankError) -> str:
    return next(words for kind, words in REASONS if isinstance(failure, kind))
