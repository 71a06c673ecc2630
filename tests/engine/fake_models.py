"""Models without weights: their results can be told from what they were fed, and a test decides when they go on."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pytest

from rerankd.engine import worker as workers
from rerankd.engine.admission import Rate, Ticket
from rerankd.engine.job import Job
from rerankd.engine.scorer import Prepared, Runner, Scored, Steps, Watch
from rerankd.engine.sequences import TokenSequence
from rerankd.engine.worker import Worker
from rerankd.types import ModelCard, RerankRequest

PATIENCE = 20.0
CARD = ModelCard(
    name="m", family="test", score="logit", source="here", device="cpu", dtype="float32", max_length=8, embeddings=True
)

Batch = list[list[int]]
Fails = Callable[[Batch], BaseException | None]


class Echo:
    """Gives the ids of each sequence back as its result; `fails` is asked before the last step of each batch."""

    def __init__(self, batch_tokens: int = 2048, steps: int = 1, fails: Fails = lambda _: None) -> None:
        self.batch_tokens = batch_tokens
        self.batches: list[Batch] = []
        self.steps_taken = 0
        self.closed = 0
        self._steps = steps
        self._fails = fails

    def run(self, sequences: Sequence[TokenSequence]) -> Steps:
        batch = [sequence.ids for sequence in sequences]
        self.batches.append(batch)
        try:
            for number in range(self._steps):
                self.step(batch)
                self.steps_taken += 1
                if number < self._steps - 1:
                    yield
            if (failure := self._fails(batch)) is not None:
                raise failure
        except GeneratorExit:
            self.closed += 1
            raise
        results: list[Any] = list(batch)
        return results

    def step(self, batch: Batch) -> None:
        pass


class Gated(Echo):
    """Waits before each step until the test lets it go on."""

    def __init__(self, batch_tokens: int = 2048, steps: int = 1, fails: Fails = lambda _: None) -> None:
        super().__init__(batch_tokens, steps, fails)
        self._gate = threading.Semaphore(0)
        self._reached = threading.Semaphore(0)
        self._free = False

    def step(self, batch: Batch) -> None:
        self._reached.release()
        if not self._free:
            assert self._gate.acquire(timeout=PATIENCE)

    async def reached(self) -> None:
        """Until it waits, or has waited, once more."""
        assert await asyncio.to_thread(self._reached.acquire, timeout=PATIENCE)

    def let_go(self, steps: int = 1) -> None:
        self._gate.release(steps)

    def open(self) -> None:
        """Nothing waits any more."""
        self._free = True
        self._gate.release(1000)


class Panic(BaseException):
    """What a panic in Rust's part of a tokenizer is in Python."""


@contextmanager
def dead_until_told(patch: pytest.MonkeyPatch) -> Iterator[threading.Event]:
    """Workers that die stay dead until the event is set."""
    told, start = threading.Event(), Worker._start

    def starts(worker: Worker) -> threading.Thread:
        assert told.wait(PATIENCE)
        return start(worker)

    patch.setattr(workers, "REVIVAL", 0.0)
    patch.setattr(Worker, "_start", starts)
    yield told
    told.set()


class EchoScorer:
    """One sequence a document, of the ids that its text names; its score is the first of them."""

    def __init__(self, runner: Runner | None, card: ModelCard = CARD) -> None:
        self.card = card
        self.runner = runner

    def prepare(self, request: RerankRequest, watch: Watch) -> Prepared:
        sequences = [TokenSequence([int(word) for word in document.text.split()]) for document in request.documents]

        def finish(results: Sequence[Any]) -> Scored:
            return Scored([float(result[0]) for result in results], tokens=sum(map(len, sequences)))

        return Prepared(sequences, finish)


def sequences_of(name: int, lengths: Sequence[int]) -> list[TokenSequence]:
    """Sequences of these lengths, each of which can be told from all others by its first two ids."""
    return [TokenSequence(([name, place] + [0] * length)[: max(length, 2)]) for place, length in enumerate(lengths)]


def job_of(
    runner: Runner,
    name: int = 0,
    lengths: Sequence[int] = (8,),
    watch: Watch | None = None,
    rate: float = 1000.0,
) -> Job:
    return Job(runner, sequences_of(name, lengths), watch or Watch(), Ticket(Rate(rate), 0.0))


def expected(job: Job) -> Any:
    """The results that an Echo gives for it."""
    return [sequence.ids for sequence in job.sequences]
