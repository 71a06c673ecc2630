"""Lexical: BM25 over the request's own documents, in any script; it needs no weights and no torch."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from math import exp
from time import perf_counter

from rerankd.engine import bm25
from rerankd.engine.bm25 import GRAM_WEIGHT, Bag
from rerankd.engine.scorer import Scored, Watch
from rerankd.engine.terms import Term, count, terms
from rerankd.types import ModelCard

STEEPNESS = 10.0
EVEN_ODDS = 0.35
"""The evidence at which a document is as likely relevant as not; it moves the scores, never their order."""


class Lexical:
    def __init__(self, name: str, notice: str | None = None) -> None:
        self.card = ModelCard(
            name=name,
            family="lexical",
            score="probability",
            source="lexical",
            device="cpu",
            dtype="float64",
            listwise=True,
            notice=notice,
        )

    def score(self, query: str, documents: Sequence[str], watch: Watch) -> Scored:
        asked = terms(query)
        bags, tokens = count_terms(documents, watch)
        started = perf_counter()
        found = bm25.scores(query_weights(asked), bags)
        watch.took("infer", started)
        return Scored(
            [probability(evidence) for evidence in found],
            max(1, tokens + len(documents) * sum(not term.is_gram for term in asked)),
        )


def query_weights(asked: Iterable[Term], worth: Callable[[str], float] = lambda _: 1.0) -> dict[str, float]:
    """What each term of the query counts: a word its `worth` each time it stands there, its trigrams a third of that."""
    weights: dict[str, float] = {}
    for term in asked:
        weight = worth(term.word) * (GRAM_WEIGHT if term.is_gram else 1.0)
        weights[term.text] = weights.get(term.text, 0.0) + weight
    return weights


def count_terms(texts: Sequence[str], watch: Watch) -> tuple[list[Bag], int]:
    """The terms of each text, counted, and how many words (or pairs of characters) there are in all."""
    started = perf_counter()
    counted = [count(text, watch.check) for text in texts]
    watch.took("tokenize", started)
    return [bag for bag, _ in counted], sum(plain for _, plain in counted)


def probability(evidence: float) -> float:
    return 1 / (1 + exp(STEEPNESS * (EVEN_ODDS - evidence)))
