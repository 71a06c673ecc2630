"""One thread owns a device; requests share it a batch at a time, and none waits for a longer one.

Concurrent forwards fight for the same cores (8 texts took 110 s instead of 3 where each request brought its own,
onyx-dot-app/onyx#8396), so there is one at a time. A request is a job of many sequences; `turns` says whose are next. A
batch runs in steps, and between two steps of a long job's batch the short jobs go first.

Every job that is let in ends: with results, with its own error, or, when the thread dies or the device is closed, refused.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import closing
from time import monotonic
from typing import TYPE_CHECKING, TypeVar

from rerankd.engine.admission import Admission
from rerankd.engine.awaiting import awaited
from rerankd.engine.batch import Batch, Filled
from rerankd.engine.beside import Beside
from rerankd.engine.job import Job
from rerankd.engine.turns import Turns
from rerankd.engine.worker import REVIVAL, Worker
from rerankd.errors import Refused
from rerankd.types import Priority

if TYPE_CHECKING:
    import torch

Answer = TypeVar("Answer")

MAX_WAIT = 30.0
STALLED = 60.0
"""Seconds without a step, while there is work, after which a device counts as stuck."""
LAST_STEP = 10.0
"""Seconds that the step which is running has to end, when the device is closed."""
AFTER_CLOSING = 5.0
"""Seconds after which to try again what a server that is being closed has refused."""


class Device:
    """The queue in front of a device and the thread that works it off; `run` may be called from any event loop."""

    def __init__(self, name: str, max_wait: float = MAX_WAIT) -> None:
        self.name = name
        self.admission = Admission(max_wait)
        self.beside = Beside(f"rerankd-{name}", _when_closed)
        self.filled = Filled()
        self._changed = threading.Condition()
        self._turns = Turns()
        self._jobs: set[Job] = set()
        self._running: list[Batch] = []
        self._calls: deque[tuple[Callable[[], object], Future[object]]] = deque()
        self._closing = False
        self._stepped: float | None = None
        self._worker = Worker(f"rerankd-{name}", self._work, self._died)

    async def run(self, job: Job, priority: Priority = "interactive") -> list[torch.Tensor]:
        """A result for each of the job's sequences. Cancelling the caller takes it out of the queue at once.

        Raises `DeadlineExceeded`, `Overloaded` where even one sequence finds no memory, `EngineError` where the model fails,
        `Refused` where the device's thread ends.
        """
        with self._changed:
            if self._closing:
                raise _when_closed()
            self._jobs.add(job)
            self._turns.add(job, priority)
            self._changed.notify()
        try:
            return await awaited(job.answer)
        except asyncio.CancelledError:
            job.watch.abandon()
            raise
        finally:
            with self._changed:
                self._jobs.discard(job)
                self._turns.discard(job)
            del job  # it holds its error, whose frames would hold it: only a collection would free them

    def call(self, work: Callable[[], Answer]) -> Answer:
        """`work()` on the device's thread, between two batches, waited for: for loading and measuring."""
        done: Future[object] = Future()
        with self._changed:
            if self._closing:
                raise _when_closed()
            self._calls.append((work, done))
            self._changed.notify()
        return done.result()  # type: ignore[return-value]

    @property
    def jobs(self) -> set[Job]:
        """Those that have not ended."""
        with self._changed:
            return set(self._jobs)

    @property
    def trouble(self) -> str | None:
        """What keeps the device from working, or None."""
        if not self._worker.alive:
            return "its worker has died and is being started again"
        since = self._stepped
        if since is not None and monotonic() - since > STALLED:
            return f"its worker has not moved for {monotonic() - since:.0f} s"
        return None

    def close(self) -> None:
        """Everything that waits or runs is refused; a step that is running has 10 s to end."""
        with self._changed:
            self._closing = True
            for job in self._jobs:
                job.fail(_when_closed())
            while self._calls:
                self._calls.popleft()[1].set_exception(_when_closed())
            self._changed.notify()
        self._worker.close(LAST_STEP)
        self.beside.close()

    def _work(self) -> None:
        while self._wait():
            self._next()

    def _wait(self) -> bool:
        """Until there is something to do; whether there is, and not the end."""
        with self._changed:
            self._stepped = None
            self._changed.wait_for(lambda: self._closing or self._calls or self._turns)
            return not self._closing

    def _next(self) -> None:
        """In a frame of its own, or a thread that waits would keep what it did last in memory."""
        with self._changed:
            call = self._calls.popleft() if self._calls else None
        if call is not None:
            _make(*call)
        elif (batch := self._begin(self._turns.next)) is not None:
            self._serve(batch)

    def _begin(self, choose: Callable[[], Batch | None]) -> Batch | None:
        with self._changed:
            self._stepped = monotonic()
            batch = choose()
            if batch is not None:
                self._running.append(batch)
                self.filled.add(batch)
            return batch

    def _serve(self, batch: Batch) -> None:
        """Run a batch to its end, letting the front in between the steps of one of the back."""
        with closing(batch.steps()) as steps:
            for seconds in steps:
                with self._changed:
                    self._stepped = monotonic()
                    self._turns.spent(batch, seconds)
                if not batch.front:
                    self._let_in()
        with self._changed:
            self._running.remove(batch)

    def _let_in(self) -> None:
        while (urgent := self._begin(self._turns.urgent)) is not None:
            self._serve(urgent)

    def _died(self) -> None:
        """The thread has died: what it was working on is refused, and what only waits is left to the next one."""
        with self._changed:
            struck = {job for batch in self._running for job in batch.jobs} | (self._jobs - self._turns.jobs)
            self._running.clear()
            self._stepped = None
            for job in struck:
                self._turns.discard(job)
                job.fail(_after_death())


def _make(work: Callable[[], object], done: Future[object]) -> None:
    try:
        done.set_result(work())
    except BaseException as cause:
        done.set_exception(cause)
        if not isinstance(cause, Exception):
            raise


def _when_closed() -> Refused:
    return Refused("The server is being closed.", retry_after=AFTER_CLOSING)


def _after_death() -> Refused:
    return Refused("The model's worker died while it worked on this request; try again.", retry_after=2 * REVIVAL)
