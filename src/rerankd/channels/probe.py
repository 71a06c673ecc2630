"""One real question, asked to see whether a reranker works: two documents, of which any model knows the better one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import isfinite
from time import monotonic

from rerankd.errors import RerankError
from rerankd.reranker import Reranker
from rerankd.types import Call, Document, RerankRequest, Result, ScoreKind

QUERY = "What is the capital of France?"
DOCUMENTS = ("I like to eat pizza with olives.", "Paris is the capital and largest city of France.")
BETTER = 1
"""The better document stands last, so that a server which only repeats the order is seen through."""
PATIENCE = 30.0


@dataclass(frozen=True)
class Verdict:
    """What the answer was like; plain values, to be written down. `scale` is guessed from the two scores.

    Where there was no answer, `error` is our sentence and `code` our error's.
    """

    milliseconds: float
    complete: bool = False
    finite: bool = False
    right_order: bool = False
    usage_given: bool = False
    scale: ScoreKind | None = None
    scores: tuple[float, ...] = ()
    warnings: tuple[str, ...] = ()
    code: str | None = None
    error: str | None = None

    @property
    def good(self) -> bool:
        return self.complete and self.finite and self.right_order

    @property
    def summary(self) -> str:
        """One line for people."""
        if self.error is not None:
            return self.error
        if not (self.complete and self.finite):
            return "The answer lacks results." if not self.complete else "A score is not a finite number."
        order = "right order" if self.right_order else "WRONG order"
        usage = "usage given" if self.usage_given else "no usage given, so that tokens are estimated"
        scores = " and ".join(f"{score:.4g}" for score in self.scores)
        return f"{order}, {usage}, scores {scores} look like a {self.scale}, {self.milliseconds:.0f} ms"


def question(model: str | None) -> RerankRequest:
    return RerankRequest(query=QUERY, documents=tuple(map(Document, DOCUMENTS)), model=model)


async def judge(reranker: Reranker, model: str | None, *, patience: float = PATIENCE) -> Verdict:
    """What `reranker` makes of the question, within `patience` seconds. It never raises a `RerankError`."""
    started = monotonic()
    call = Call("probe", deadline=started + patience)
    try:
        response = await reranker.rerank(question(model), call)
    except RerankError as error:
        return Verdict(_since(started), code=error.code, error=error.message)
    scores = _scores(response.results)
    complete = None not in scores and len(response.results) == len(DOCUMENTS)
    found = tuple(score for score in scores if score is not None)
    finite = bool(found) and all(map(isfinite, found))
    return Verdict(
        _since(started),
        complete=complete,
        finite=finite,
        right_order=complete and finite and max(range(len(found)), key=found.__getitem__) == BETTER,
        usage_given=not response.usage.estimated,
        scale=_scale(found) if finite else None,
        scores=found,
        warnings=response.warnings,
    )


def _scores(results: Sequence[Result]) -> list[float | None]:
    """The score of each document, None where it has none."""
    by_index = {result.index: result.relevance_score for result in results}
    return [by_index.get(index) for index in range(len(DOCUMENTS))]


def _scale(scores: Sequence[float]) -> ScoreKind:
    """Logits of two so different texts leave the bounds of the others; a cosine is only told by being negative."""
    if all(0 <= score <= 1 for score in scores):
        return "probability"
    return "cosine" if all(-1 <= score <= 1 for score in scores) else "logit"


def _since(started: float) -> float:
    return (monotonic() - started) * 1000
