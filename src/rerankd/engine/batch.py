"""One batch on a device: sequences of one or more jobs; what goes wrong with it costs only those that it is wrong for.

Out of memory, it is halved; failing otherwise, it is tried again job by job, so that what breaks the model breaks alone.
"""

from __future__ import annotations

import logging
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from time import perf_counter
from typing import TYPE_CHECKING

from rerankd.engine import memory
from rerankd.engine.scorer import Runner, Steps
from rerankd.engine.sequences import TokenSequence
from rerankd.errors import EngineError, Overloaded, RerankError

if TYPE_CHECKING:
    import torch

    from rerankd.engine.job import Job

    Member = tuple[Job, int]
    """A job, and the place of one of its sequences."""

log = logging.getLogger("rerankd.engine")

LEAST = 16
"""Tokens of room for which nothing is looked for any more."""
TELLING = 1 / 2
"""The share of its tokens from which on a batch tells the runner's rate: a small one is mostly overhead."""


@dataclass(slots=True)
class Filled:
    """How full the batches were that have begun: how many, the tokens in them, and the tokens that they had room for."""

    batches: int = 0
    tokens: int = 0
    room: int = 0

    def add(self, batch: Batch) -> None:
        self.batches += 1
        self.tokens += batch.tokens
        self.room += max(batch.tokens, batch.runner.batch_tokens)  # one long sequence may need more than there is


class Batch:
    """Sequences for one runner; `front` says which line they came from."""

    def __init__(self, runner: Runner, *, front: bool) -> None:
        self.runner = runner
        self.front = front
        self.members: list[Member] = []
        self.tokens = 0
        self._released = False

    @property
    def jobs(self) -> list[Job]:
        return jobs_of(self.members)

    @property
    def open(self) -> bool:
        """Whether it is worth while to look for more."""
        return not self.members or self.runner.batch_tokens - self.tokens >= LEAST

    def fits(self, sequence: TokenSequence) -> bool:
        """Whether there is room; the first sequence fits at any length."""
        return not self.members or self.tokens + len(sequence) <= self.runner.batch_tokens

    def add(self, job: Job, place: int) -> None:
        self.members.append((job, place))
        self.tokens += len(job.sequences[place])

    def steps(self) -> Generator[float, None, None]:
        """Run it, yielding after each step the seconds that it took; its members have results or errors at the end.

        The runner sees them in order of length, whosever they are: neighbours of one length can be computed together.

        It stops between two steps when nobody waits for any of them. Closing it stops it too, and settles nothing.
        """
        for job in self.jobs:
            job.began()
        yield from self._run(sorted(self.members, key=lambda member: len(member[0].sequences[member[1]])))
        for job in self.jobs:
            job.expire()

    def _run(self, members: Sequence[Member]) -> Iterator[float]:
        members = [(job, place) for job, place in members if not job.over]
        if members:
            error = yield from self._forward(members)
            if error is not None:
                yield from self._again(members, error)

    def _forward(self, members: Sequence[Member]) -> Generator[float, None, RerankError | None]:
        """Compute `members` and hand out their results, or say what went wrong."""
        jobs = jobs_of(members)
        began, spent, took = perf_counter(), 0.0, 0.0
        results: Sequence[torch.Tensor] | None = None
        try:
            with closing(self.runner.run([job.sequences[place] for job, place in members])) as steps:
                while results is None:
                    if all(job.over for job in jobs):
                        return None
                    started = perf_counter()
                    results = _advance(steps, len(members))
                    took = perf_counter() - started
                    spent += took
                    if results is None:
                        yield took
        except Exception as cause:
            error = _error(cause, len(members))
            cause.__traceback__ = None  # its frames hold tensors, which are to be free before another try
            return error
        for job in jobs:
            job.watch.took("infer", began)
        self._measured(members, spent)
        for (job, place), result in zip(members, results, strict=True):
            job.done(place, result)
        yield took
        return None

    def _again(self, members: Sequence[Member], error: RerankError) -> Iterator[float]:
        """What becomes of members whose forward has failed."""
        jobs = jobs_of(members)
        starved = isinstance(error, Overloaded)
        if starved and not self._released:
            memory.release()
            self._released = True  # it takes a while
        if starved and len(members) > 1:
            half = len(members) // 2
            yield from self._run(members[:half])
            yield from self._run(members[half:])
        elif len(jobs) > 1:
            for job in jobs:
                yield from self._run([member for member in members if member[0] is job])
        else:
            jobs[0].fail(error)

    def _measured(self, members: Sequence[Member], seconds: float) -> None:
        cost = sum(job.sequences[place].cost for job, place in members)
        tokens = sum(len(job.sequences[place]) for job, place in members)
        members[0][0].measured(cost, seconds, full=tokens >= TELLING * self.runner.batch_tokens)


def jobs_of(members: Sequence[Member]) -> list[Job]:
    return list(dict.fromkeys(job for job, _ in members))


def _advance(steps: Steps, count: int) -> Sequence[torch.Tensor] | None:
    """Take one step; the results after the last one."""
    try:
        next(steps)
    except StopIteration as end:
        results: Sequence[torch.Tensor] = end.value
        if len(results) != count:
            raise EngineError("The model failed on this request: it gave results for other documents.") from None
        return results
    return None


def _error(cause: Exception, count: int) -> RerankError:
    """What a request that fails for `cause` is told; the log is told the rest."""
    if memory.lacking(cause):
        log.warning("no memory to compute %d sequences at once", count)
        return Overloaded("There is no memory for a document of this length now.", retry_after=memory.LATER)
    if isinstance(cause, RerankError):
        return cause.with_traceback(None)
    log.error("a batch of %d sequences failed", count, exc_info=cause)
    return EngineError("The model failed on this request; the server's log says more.")
