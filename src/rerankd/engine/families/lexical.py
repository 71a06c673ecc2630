"""Lexical: BM25 over the request's own documents, in any script; it needs no weights and no torch."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from math import exp
from time import perf_counter

from rerankd.engine import bm25
from rerankd.engine.bm25 import GRAM_WEIGHT, Bag
from rerankd.engine.scorer import Scored, Watch
from rerankd.engine.terms import Term, terms
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
        return Scored([probability(evidence) for evidence in found], max(1, tokens + len(documents) * _plain(asked)))


def query_weights(asked: Sequence[Term], worth: Callable[[str], float] = lambda _: 1.0) -> dict[str, float]:
    """What each term of the query counts: a word its `worth` each time it stands there, its trigrams a third of that."""
    weights: dict[str, float] = {}
    for term in asked:
        weight = worth(term.word) * (GRAM_WEIGHT if term.is_gram else 1.0)
        weights[term.text] = weights.get(term.text, 0.0) + weight
    return weights


def count_terms(documents: Sequence[str], watch: Watch) -> tuple[list[Bag], int]:
    """The terms of each document, counted, and how many words (or pairs of characters) there are in all."""
    started = perf_counter()
    bags: list[Bag] = []
    plain = 0
    for document in documents:
        watch.check()
        found = terms(document)
        plain += _plain(found)
        bags.append(Counter(term.text for term in found))
    watch.took("tokenize", started)
    return bags, plain


def probability(evidence: float) -> float:
    return 1 / (1 + exp(STEEPNESS * (EVEN_ODDS - evidence)))


def _plain(found: Sequence[Term]) -> int:
    return sum(1 for term in found if not term.is_gram)
