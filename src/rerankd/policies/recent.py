"""How many things happened in the last seconds, and how many of them were of a kind; memory is bounded whatever the rate."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable


class Recent:
    def __init__(self, seconds: int, clock: Callable[[], float]) -> None:
        """What is `seconds` old, in whole seconds of `clock`, is forgotten."""
        self._seconds = seconds
        self._clock = clock
        self._counted: deque[tuple[int, int, int]] = deque()  # a second, all in it, marked in it
        self._all = 0
        self._marked = 0

    def add(self, count: int = 1, *, marked: int = 0) -> None:
        """Counts `count` more, and `marked` more of the kind; either can be 0."""
        self._forget()
        second, all_, marks = int(self._clock()), count, marked
        if self._counted and self._counted[-1][0] >= second:
            second, all_before, marks_before = self._counted.pop()
            all_, marks = all_ + all_before, marks + marks_before
        self._counted.append((second, all_, marks))
        self._all += count
        self._marked += marked

    def counts(self) -> tuple[int, int]:
        """All, and those of the kind."""
        self._forget()
        return self._all, self._marked

    def clear(self) -> None:
        self._counted.clear()
        self._all = self._marked = 0

    def _forget(self) -> None:
        oldest = int(self._clock()) - self._seconds
        while self._counted and self._counted[0][0] <= oldest:
            _, all_, marks = self._counted.popleft()
            self._all -= all_
            self._marked -= marks
