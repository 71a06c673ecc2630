"""How many calls that were begun one after another have failed, whatever the order in which they ended.

A refused connection is known in a millisecond and an answer takes a second. In the order of their ends, the failures of
fifty calls at once would all come first and look like an outage. So a call counts when those begun before it have ended.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable


class Streak:
    """`failures` are those in a row up to now."""

    def __init__(self) -> None:
        self.failures = 0
        self._begun: deque[Hashable] = deque()
        self._ended: dict[Hashable, bool | None] = {}

    @property
    def under_way(self) -> int:
        return len(self._begun) - len(self._ended)

    def begin(self, call: Hashable) -> None:
        self._begun.append(call)

    def end(self, call: Hashable, failed: bool | None) -> None:
        """A call that was begun has `failed` or not; None says that it counts as neither."""
        self._ended[call] = failed
        while self._begun and self._begun[0] in self._ended:
            failed = self._ended.pop(self._begun.popleft())
            if failed is not None:
                self.failures = self.failures + 1 if failed else 0
