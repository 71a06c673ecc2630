"""Jobs that share a device fairly: deficit round-robin, in which whoever has been given least comes next.

A turn is worth QUANTUM of cost, and what it takes is charged in seconds of the device, because a token of a small model
costs less than one of a large model.
"""

from __future__ import annotations

from collections.abc import Iterable
from heapq import heapify, heappop, heappush
from math import inf

from rerankd.engine.batch import Batch
from rerankd.engine.job import Job

QUANTUM = 512.0
"""In units of cost: tokens of short sequences."""


class Line:
    """The jobs that wait, in the order in which they came; a job is served `limit` of its cost here and no more, and
    `at_once` of it in one batch.

    Whoever uses it holds its device's lock.
    """

    def __init__(self, *, front: bool, limit: float = inf, at_once: float = inf) -> None:
        self._front = front
        self._limit = limit
        self._at_once = at_once
        self._jobs: dict[Job, None] = {}
        self._level = 0.0

    @property
    def jobs(self) -> Iterable[Job]:
        return self._jobs.keys()

    def __len__(self) -> int:
        return len(self._jobs)

    def serves(self, job: Job) -> bool:
        """Whether what comes next of it is within the limit."""
        return job.served + job.next_cost <= self._limit

    def add(self, job: Job) -> None:
        """A newcomer owes nothing and is owed nothing: it begins where the one begins who has been given least."""
        job.turn = self._level
        self._jobs[job] = None

    def discard(self, job: Job) -> None:
        self._jobs.pop(job, None)

    def fill(self) -> Batch | None:
        """A batch of the runner whose job is next, shared with other jobs of that runner; None where nobody waits.

        Jobs that are all in batches leave the line, and so do those that nobody waits for, which are failed.
        """
        self._drop_dead()
        if not self._jobs:
            return None
        following = min(self._jobs, key=lambda job: job.turn)
        self._level = following.turn
        batch = Batch(following.runner, front=self._front)
        self._share(batch)
        for job in batch.jobs:
            if not job.pending:
                self.discard(job)
        return batch

    def _share(self, batch: Batch) -> None:
        turns = [(job.turn, order, job) for order, job in enumerate(self._jobs) if job.runner is batch.runner]
        heapify(turns)
        ends = {job: job.served + self._at_once for _, _, job in turns}
        while turns and batch.open:
            _, order, job = heappop(turns)
            if job.give(batch, QUANTUM) and self.serves(job) and job.served < ends[job]:
                heappush(turns, (job.turn, order, job))

    def _drop_dead(self) -> None:
        dead = [job for job in self._jobs if job.over or not job.pending]
        for job in dead:
            job.expire()
            self.discard(job)
