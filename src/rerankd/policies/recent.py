"""How many things happened in the last seconds, and how many of them were of a kind; memory is bounded whatever the rate."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable


class Recent:
    def __init__(self, seconds: int, clock: Callable[[], float]) -> None:
        """What is `seconds` old, in whole seconds of `clock`, is forgotten."""
        self._seconds = seconds
        self._clock = clock
        self._counted: deque[list[int]] = deque()  # a second, all in it, marked in it
        self._all = 0
        self._marked = 0

    def add(self, count: int = 1, *, marked: int = 0) -> None:
        """Counts `count` more, and `marked` more of the kind; either can be 0."""
        second = int(self._clock())
        if not self._counted or self._counted[-1][0] < second:
            self._forget(second)
            self._counted.append([second, 0, 0])
        last = self._counted[-1]
        last[1] += count
        last[2] += marked
        self._all += count
        self._marked += marked

    def counts(self) -> tuple[int, int]:
        """All, and those of the kind."""
        self._forget(int(self._clock()))
        return self._all, self._marked

    def clear(self) -> None:
        self._counted.clear()
        self._all = self._marked = 0

    def _forget(self, second: int) -> None:
        counted = self._counted
        while counted and counted[0][0] <= second - self._seconds:
            _, all_, marked = counted.popleft()
            self._all -= all_
            self._marked -= marked
