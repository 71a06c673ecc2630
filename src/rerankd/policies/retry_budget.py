"""How many calls may go out beyond the first of each request, so that trouble upstream is not multiplied here.

One budget belongs to one public model and is shared by all its channels: asking the same channel again and going on to the
next one are paid from the same pot. It holds 8 % of the last minute's first calls: less than a tenth, so that at most 1.1
calls go out for a request although a minute slides. Where there are fewer than 750 requests a minute that is little, and a
few more calls harm nobody: ten are paid for asking the same channel again, and sixty for going on, so that what is under way
when a channel dies need not die with it. Going on is worth more than asking again: the next channel is likely to be well.
"""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic

from rerankd.policies.recent import Recent

MOST_CALLS = 3
"""Calls for one request, all channels together."""

SHARE = 0.08
SECONDS = 60
LEAST_AGAIN = 10
LEAST_ONWARDS = 60


class RetryBudget:
    def __init__(self, *, clock: Callable[[], float] = monotonic) -> None:
        self._recent = Recent(SECONDS, clock)

    def first_call(self) -> None:
        """The first call of a request: always allowed, and what the tenth is reckoned from."""
        self._recent.add()

    def again(self) -> bool:
        """Pays for one more call to the same channel; False where that cannot be paid."""
        return self._pay(LEAST_AGAIN)

    def onwards(self) -> bool:
        """Pays for a call to another channel after one has failed; False where that cannot be paid."""
        return self._pay(LEAST_ONWARDS)

    @property
    def low(self) -> bool:
        """Whether a request that fails now can hardly be asked anywhere else: too little is left for two calls more."""
        return self._left(LEAST_ONWARDS) < 2

    def _pay(self, least: int) -> bool:
        if self._left(least) < 1:
            return False
        self._recent.add(0, marked=1)
        return True

    def _left(self, least: int) -> float:
        first, further = self._recent.counts()
        return max(SHARE * first, least) - further
