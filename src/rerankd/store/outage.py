"""While the database is away, nobody waits to hear so: after a failure it is asked again after a pause, by one."""

from __future__ import annotations

import logging
from collections.abc import Callable
from time import monotonic

log = logging.getLogger("rerankd.store")

FIRST_PAUSE, LONGEST_PAUSE = 0.25, 5.0
"""Seconds; each further failure doubles the pause."""


class Outage:
    """`on` from a failure until something succeeds. Who finds a try `due` makes it; all others are refused meanwhile."""

    def __init__(self, clock: Callable[[], float] = monotonic) -> None:
        self._clock = clock
        self._pause = 0.0
        self._until = self._failed = 0.0
        self.reason = ""

    @property
    def on(self) -> bool:
        return self._pause > 0

    def now(self) -> float:
        return self._clock()

    def due(self) -> bool:
        now = self._clock()
        if not self.on or now < self._until:
            return False
        self._until = now + LONGEST_PAUSE  # by when that try has failed or gone well
        return True

    @property
    def remaining(self) -> float:
        """Seconds until there is another try, and at least a little."""
        return max(FIRST_PAUSE, self._until - self._clock())

    def began(self, reason: str, asked: float) -> None:
        """Or goes on: what was `asked` before the last failure tells nothing new. `reason` is for the log."""
        if self.on and asked < self._failed:
            return
        if not self.on:
            log.warning("the database (server.database) is away: %s", reason)
        self.reason = reason
        self._failed = self._clock()
        self._pause = min(LONGEST_PAUSE, self._pause * 2 or FIRST_PAUSE)
        self._until = self._clock() + self._pause

    def ended(self) -> None:
        if self.on:
            log.warning("the database (server.database) is there again")
        self.reason = ""
        self._pause = self._until = 0.0
