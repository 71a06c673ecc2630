"""A request's work on a device: what is still to be done, what has come out, and who waits for it."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future, InvalidStateError
from contextlib import suppress
from time import perf_counter
from typing import TYPE_CHECKING

from rerankd.engine.admission import Ticket
from rerankd.engine.scorer import Runner, Watch
from rerankd.engine.sequences import TokenSequence
from rerankd.errors import Abandoned, DeadlineExceeded, RerankError

if TYPE_CHECKING:
    import torch

    from rerankd.engine.batch import Batch


class Job:
    """`answer` is settled once: with a result for each sequence, in their order, or with a `RerankError`.

    `pending` are the places of the sequences that are in no batch yet, shortest first. `served` is the cost of those that
    have been put into one; `turn` is the line's: whose is the lowest is next.
    """

    def __init__(self, runner: Runner, sequences: Sequence[TokenSequence], watch: Watch, ticket: Ticket) -> None:
        self.runner = runner
        self.sequences = sequences
        self.watch = watch
        self.answer: Future[list[torch.Tensor]] = Future()
        self.pending = deque(sorted(range(len(sequences)), key=lambda place: len(sequences[place])))
        self.served = 0.0
        self.turn = 0.0
        self._ticket = ticket
        self._results: dict[int, torch.Tensor] = {}
        self._queued: float | None = perf_counter()
        ticket.left = sum(sequence.cost for sequence in sequences)
        if not sequences:
            self.answer.set_result([])

    @property
    def over(self) -> bool:
        """Whether there is nobody left to work for."""
        return self.answer.done() or self.watch.over

    @property
    def next_cost(self) -> float:
        return self.sequences[self.pending[0]].cost if self.pending else 0.0

    def give(self, batch: Batch, most: float) -> bool:
        """Put what comes next into `batch`, until it is `most` of cost or more; whether it gave, and has more to give."""
        given = 0.0
        while self.pending and given < most and batch.fits(self.sequences[self.pending[0]]):
            given += self.next_cost
            batch.add(self, self.pending.popleft())
        self.served += given
        self.turn += given / self._ticket.rate.per_second
        return given > 0 and bool(self.pending)

    def began(self) -> None:
        """Its first sequence is being computed."""
        if self._queued is not None:
            self.watch.took("queue", self._queued)
            self._queued = None

    def done(self, place: int, result: torch.Tensor) -> None:
        self._results[place] = result
        self._ticket.left = max(0.0, self._ticket.left - self.sequences[place].cost)
        if len(self._results) == len(self.sequences):
            with suppress(InvalidStateError):  # nobody waits any more
                self.answer.set_result([self._results[index] for index in range(len(self.sequences))])

    def measured(self, cost: float, seconds: float, *, full: bool) -> None:
        """A batch of this job's runner took so long."""
        self._ticket.rate.observe(cost, seconds, full=full)

    def fail(self, error: RerankError) -> None:
        """Let go of all of it, unless it has been settled."""
        self.pending.clear()
        with suppress(InvalidStateError):
            self.answer.set_exception(error)

    def expire(self) -> None:
        """Fail if nobody waits for it any more."""
        try:
            self.watch.check()
        except (Abandoned, DeadlineExceeded) as over:
            self.fail(over.with_traceback(None))
