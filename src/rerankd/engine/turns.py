"""Who is next on a device: short work in front of long work, and a quarter of the time for the long, so that it ends too.

A job begins in the front line. What of it costs more than HEAD_START, and everything of priority `batch`, waits in the back.
While both have work the front has FRONT_SHARE of the device's time, so ten documents never wait for a thousand.
"""

from __future__ import annotations

from rerankd.engine.batch import Batch
from rerankd.engine.job import Job
from rerankd.engine.line import Line
from rerankd.types import Priority

HEAD_START = 6144.0
"""In units of cost: ten documents of 512 tokens."""
AT_ONCE = 2048.0
"""Of which so much is in one batch: nothing interrupts a batch of the front."""
FRONT_SHARE = 0.75
BURST = 1.0
"""Seconds that the back may be short of its share before it is given it: a few short jobs at a time wait for nobody."""


class Turns:
    """Whoever uses it holds its device's lock."""

    def __init__(self) -> None:
        self._front, self._back = Line(front=True, limit=HEAD_START, at_once=AT_ONCE), Line(front=False)
        self._owed = 0.0  # seconds that the back is short of its share; negative ones are the front's
        self._interrupted = False

    def __len__(self) -> int:
        return len(self._front) + len(self._back)

    @property
    def jobs(self) -> set[Job]:
        """Those of which something is in no batch yet."""
        return {*self._front.jobs, *self._back.jobs}

    def add(self, job: Job, priority: Priority) -> None:
        (self._front if priority == "interactive" and self._front.serves(job) else self._back).add(job)

    def discard(self, job: Job) -> None:
        self._front.discard(job)
        self._back.discard(job)

    def next(self) -> Batch | None:
        """The next batch, when the last one has ended; None where there is nothing to do."""
        self._interrupted = False
        if not (self._front and self._back):
            self._owed = 0.0
        first, second = (self._front, self._back) if self._owed <= BURST else (self._back, self._front)
        return self._fill(first) or self._fill(second)

    def urgent(self) -> Batch | None:
        """A batch of the front, where it goes before the rest of a batch of the back that is running."""
        self._interrupted = True
        return self._fill(self._front) if self._owed <= BURST else None

    def spent(self, batch: Batch, seconds: float) -> None:
        """The device has worked so long on `batch`. A line is charged only for what the other one had to wait for."""
        if not batch.front:
            self._owed -= seconds * FRONT_SHARE
            self._owed = self._owed if self._front else max(0.0, self._owed)
        elif self._back or self._interrupted:
            self._owed += seconds * (1 - FRONT_SHARE)

    def _fill(self, line: Line) -> Batch | None:
        batch = line.fill()
        if batch is not None and batch.front:
            for job in batch.jobs:
                if job.pending and not self._front.serves(job):
                    self._front.discard(job)
                    self._back.add(job)
        return batch
