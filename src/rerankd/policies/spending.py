"""What one key has spent of its quotas: the ledger's sums, what was settled since they were read, and what is reserved.

The sums are set, never added to: what they hold already is dropped from what was settled, by the ledger's own numbers, in
one step. So they can be read at any time and as often as one likes, and nothing counts twice for longer than until the next
reading, or is lost.
"""

from __future__ import annotations

from collections.abc import Callable
from time import gmtime

from rerankd.accounts import Quotas, Spent
from rerankd.reservations import DAY, PERIODS, SOON, until_more

MOST_SETTLED = 10_000
"""Kept one by one; more are put together, which counts them a little longer and never shorter."""


class Spending:
    """`wall` is in seconds since 1970, and says no more than which day it is: a jump of it leaves nothing stuck."""

    def __init__(self, wall: Callable[[], float]) -> None:
        self.known = False
        self.reserved = 0
        self._wall = wall
        self._used: dict[str, int] = dict.fromkeys(PERIODS, 0)
        self._settled: list[tuple[int, int, int]] = []  # the ledger's number, tokens, the day
        self._upto = -1
        self._day = -1

    @property
    def idle(self) -> bool:
        return not self.reserved and not self._settled

    @property
    def used(self) -> Spent:
        """Without what is reserved."""
        self._turn()
        return Spent(**self._used)

    def blocked(self, quotas: Quotas, tokens: int) -> dict[str, float]:
        """The quotas that leave no room for `tokens`, with the seconds until they may."""
        self._turn()
        blocked: dict[str, float] = {}
        for period in PERIODS:
            quota: int | None = getattr(quotas, period)
            if quota is not None and self._used[period] + self.reserved + tokens > quota:
                fits = self._used[period] + tokens <= quota
                blocked[period] = SOON if fits else until_more(period, self._wall())
        return blocked

    def settle(self, tokens: int, sequence: int | None) -> None:
        """`sequence` None is for what no ledger will ever hold."""
        if not tokens or (sequence is not None and sequence <= self._upto):
            return
        self._turn()
        for period in PERIODS:
            self._used[period] += tokens
        if sequence is None:
            return
        if len(self._settled) >= MOST_SETTLED:
            number, more, _ = self._settled.pop()
            sequence, tokens = max(sequence, number), tokens + more
        self._settled.append((sequence, tokens, self._day))

    def seed(self, spent: Spent, upto: int, day: int) -> None:
        """The sums, read on `day` after the rows up to number `upto` were in them."""
        self._turn()
        self._settled = [each for each in self._settled if each[0] > upto]
        self._upto = max(self._upto, upto)
        self._used["total"] = spent.total + sum(tokens for _, tokens, _ in self._settled)
        for period, begun in (("month", spent.month), ("day", spent.day)):
            now = _begun(period, self._day)
            since = sum(tokens for _, tokens, on in self._settled if _begun(period, on) == now)
            self._used[period] = since + (begun if _begun(period, day) == now else 0)
        self.known = True

    def today(self) -> int:
        """The day of UTC, counted from 1970."""
        return int(self._wall() // DAY)

    def _turn(self) -> None:
        """Where another day has come, that one's sum begins at nothing, and so may the month's."""
        today = self.today()
        if today == self._day:
            return
        for period in ("month", "day"):
            if _begun(period, today) != _begun(period, self._day):
                self._used[period] = 0
        self._day = today


def _begun(period: str, day: int) -> object:
    return gmtime(day * DAY)[:2] if period == "month" else day
