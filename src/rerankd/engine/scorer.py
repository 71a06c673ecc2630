"""What every family of local models is: it makes work for a device out of a request, and scores out of the results.

A Scorer is synchronous and knows nothing of names, wire formats or other requests. `prepare` and what it returns run on a
thread beside the event loop; only the Runner's work runs on the device.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, field
from time import monotonic, perf_counter
from typing import TYPE_CHECKING, Protocol

from rerankd.engine.sequences import TokenSequence
from rerankd.errors import Abandoned, DeadlineExceeded
from rerankd.types import ModelCard, RerankRequest

if TYPE_CHECKING:
    import torch


@dataclass(slots=True)
class Watch:
    """Asked between two pieces of work whether the answer is still wanted; also keeps the time each stage took."""

    deadline: float | None = None
    timings: dict[str, float] = field(default_factory=dict)
    began: dict[str, float] = field(default_factory=dict)
    _abandoned: threading.Event = field(default_factory=threading.Event)

    def abandon(self) -> None:
        self._abandoned.set()

    @property
    def over(self) -> bool:
        """Whether nobody waits any more."""
        return self._abandoned.is_set() or (self.deadline is not None and monotonic() > self.deadline)

    def check(self) -> None:
        """Raises `Abandoned` when the caller has gone and `DeadlineExceeded` when its time is up."""
        if self._abandoned.is_set():
            raise Abandoned("The caller has gone.")
        if self.over:
            raise DeadlineExceeded("The request's time was up before all of its documents were scored.")

    def took(self, stage: str, since: float) -> None:
        """Add the milliseconds from `since` (`time.perf_counter`) to now to `stage`."""
        self.began.setdefault(stage, since)
        self.timings[stage] = self.timings.get(stage, 0.0) + (perf_counter() - since) * 1000


@dataclass(frozen=True, slots=True)
class Scored:
    """One score per document, in document order; `tokens` is what was fed to the model, `pair_tokens` for each document with
    the query, where a model reads them so; `truncated` are indexes.
    """

    scores: Sequence[float]
    tokens: int
    truncated: Sequence[int] = ()
    query_truncated: bool = False
    embeddings: Sequence[tuple[float, ...]] | None = None
    warnings: Sequence[str] = ()
    limit: int | None = None
    """Tokens that a document was cut to, where that is not the card's max_length."""
    pair_tokens: Sequence[int] | None = None


Steps = Generator[None, None, "list[torch.Tensor]"]
"""Work on a device in steps: between two of them something else may run there. It returns one result per sequence."""


class Runner(Protocol):
    """A model on its device."""

    @property
    def batch_tokens(self) -> int:
        """How many tokens a batch should have; a longer sequence is a batch of its own."""
        ...

    def run(self, sequences: Sequence[TokenSequence]) -> Steps:
        """What the model's head makes of each sequence, on the CPU, in the given order.

        A sequence's result is the same to the last bit, whatever its company.
        """
        ...


@dataclass(frozen=True, slots=True)
class Prepared:
    """A request's work: sequences for the device (none for a model that needs none), and what becomes of the results."""

    sequences: Sequence[TokenSequence]
    finish: Callable[[Sequence[torch.Tensor]], Scored]


class Scorer(Protocol):
    @property
    def card(self) -> ModelCard: ...

    @property
    def runner(self) -> Runner | None: ...

    def prepare(self, request: RerankRequest, watch: Watch) -> Prepared:
        """Raises a `RerankError`, or any other exception where there is a bug; scores are on the card's scale."""
        ...


def score(scorer: Scorer, request: RerankRequest, watch: Watch | None = None) -> Scored:
    """The whole of it, here and now: for evaluation, benchmarks and tests."""
    watch = watch or Watch()
    prepared = scorer.prepare(request, watch)
    return prepared.finish(run_all(scorer.runner, prepared.sequences, watch) if scorer.runner is not None else [])


def run_all(runner: Runner, sequences: Sequence[TokenSequence], watch: Watch) -> list[torch.Tensor]:
    """Every sequence's result, in batches of the runner's size, shortest first."""
    results: dict[int, torch.Tensor] = {}
    for batch in batches(sequences, runner.batch_tokens):
        started = perf_counter()
        results.update(zip(batch, drain(runner.run([sequences[index] for index in batch]), watch), strict=True))
        watch.took("infer", started)
    return [results[index] for index in range(len(sequences))]


def drain(steps: Steps, watch: Watch) -> list[torch.Tensor]:
    while True:
        watch.check()
        try:
            next(steps)
        except StopIteration as end:
            return end.value  # type: ignore[no-any-return]


def batches(sequences: Sequence[TokenSequence], batch_tokens: int) -> list[list[int]]:
    """The indexes of `sequences`, shortest first, cut where a batch would have more than `batch_tokens`."""
    found: list[list[int]] = []
    room = 0
    for index in sorted(range(len(sequences)), key=lambda index: len(sequences[index])):
        length = len(sequences[index])
        if not found or length > room:
            found.append([])
            room = batch_tokens
        found[-1].append(index)
        room -= length
    return found
