"""How much was used in the last 60 seconds, in sums of whole seconds: never more counts as forgotten than is that old.

A second's sum counts until its last moment is 60 s old, so that in no 60 s, wherever they begin, more was let in than the
limit. The price is that the first of it counts for up to a second longer. There are at most 61 sums, whatever comes.
"""

from __future__ import annotations

from rerankd.reservations import SPAN


class Window:
    """It is told the time, in seconds of a clock that never goes back."""

    __slots__ = ("_looked", "_seconds", "_used")

    def __init__(self) -> None:
        self._seconds: dict[int, int] = {}  # in their order
        self._used = 0
        self._looked = -1

    def used(self, second: int) -> int:
        if second > self._looked:
            self._looked = second
            self._forget(second - SPAN)
        return self._used

    def add(self, second: int, amount: int) -> None:
        self._seconds[second] = self._seconds.get(second, 0) + amount
        self._used += amount

    def replace(self, second: int, before: int, after: int) -> None:
        """What was counted in `second` as `before` was `after`; nothing happens where that is forgotten."""
        known = self._seconds.get(second)
        if known is not None:
            now = max(0, known + after - before)
            self._seconds[second] = now
            self._used += now - known

    def wait(self, now: float, room: int) -> float:
        """Seconds until no more than `room` is used, if nothing else comes."""
        left, last = self._used, int(now)
        for second, amount in self._seconds.items():
            if left <= room:
                break
            left, last = left - amount, second
        return last + SPAN - now

    def reset(self, now: float) -> float:
        """Seconds until nothing is used, if nothing else comes."""
        return next(reversed(self._seconds)) + SPAN - now if self._seconds else 0.0

    def _forget(self, last: int) -> None:
        """All that came up to this second."""
        seconds = self._seconds
        while seconds:
            first = next(iter(seconds))
            if first > last:
                break
            self._used -= seconds.pop(first)
