"""What every family of local models is: something that scores documents for a query, on the thread that owns its device.

A Scorer is synchronous and knows nothing of requests, names or wire formats; `LocalReranker` makes a Reranker of it.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from time import monotonic, perf_counter
from typing import Protocol

from rerankd.errors import Abandoned, DeadlineExceeded
from rerankd.types import ModelCard


@dataclass(slots=True)
class Watch:
    """Asked between two pieces of work whether the answer is still wanted; also keeps the time each stage took."""

    deadline: float | None = None
    timings: dict[str, float] = field(default_factory=dict)
    _abandoned: threading.Event = field(default_factory=threading.Event)

    def abandon(self) -> None:
        self._abandoned.set()

    def check(self) -> None:
        """Raises `Abandoned` when the caller has gone and `DeadlineExceeded` when its time is up."""
        if self._abandoned.is_set():
            raise Abandoned("The caller has gone.")
        if self.deadline is not None and monotonic() > self.deadline:
            raise DeadlineExceeded("The request's time was up before all of its documents were scored.")

    def took(self, stage: str, since: float) -> None:
        """Add the milliseconds from `since` (`time.perf_counter`) to now to `stage`."""
        self.timings[stage] = self.timings.get(stage, 0.0) + (perf_counter() - since) * 1000


@dataclass(frozen=True, slots=True)
class Scored:
    """One score per document, in document order; `tokens` is what was fed to the model; `truncated` are indexes."""

    scores: Sequence[float]
    tokens: int
    truncated: Sequence[int] = ()
    query_truncated: bool = False
    embeddings: Sequence[tuple[float, ...]] | None = None


class Scorer(Protocol):
    @property
    def card(self) -> ModelCard: ...

    def score(self, query: str, documents: Sequence[str], watch: Watch) -> Scored:
        """Scores on the card's scale. Raises a `RerankError`, or any other exception where there is a bug."""
        ...
