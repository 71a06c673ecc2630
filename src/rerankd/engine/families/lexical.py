"""Lexical: BM25 over the request's own documents, in any script; it needs no weights and no torch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import exp
from time import perf_counter

from rerankd.engine import bm25
from rerankd.engine.bm25 import GRAM_WEIGHT, Bag
from rerankd.engine.scorer import Prepared, Scored, Watch
from rerankd.engine.terms import Terms, grams, read_terms
from rerankd.types import LEXICAL, ModelCard, RerankRequest

STEEPNESS = 10.0
EVEN_ODDS = 0.35
"""The evidence at which a document is as likely relevant as not; it moves the scores, never their order."""


class Lexical:
    runner = None

    def __init__(self, name: str, notice: str | None = None) -> None:
        self.card = ModelCard(
            name=name,
            family=LEXICAL,
            score="probability",
            source=LEXICAL,
            device="cpu",
            dtype="float64",
            listwise=True,
            notice=notice,
        )

    def prepare(self, request: RerankRequest, watch: Watch) -> Prepared:
        asked = read_terms(request.query, watch.check)
        bags, tokens = count_terms([document.text for document in request.documents], watch)
        started = perf_counter()
        found = bm25.scores(query_weights(asked), bags)
        watch.took("infer", started)
        tokens += len(bags) * asked.total()
        scored = Scored([probability(evidence) for evidence in found], max(1, tokens))
        return Prepared((), lambda _: scored)


def query_weights(asked: Terms, worth: Callable[[str], float] = lambda _: 1.0) -> dict[str, float]:
    """What each term of the query counts: a word its `worth` each time it stands there, its trigrams a third of that."""
    weights: dict[str, float] = {pair: float(times) for pair, times in asked.pairs.items()}
    for word, times in asked.words.items():
        weight = worth(word) * times
        weights[word] = weights.get(word, 0.0) + weight
        for gram in grams(word):
            weights[gram] = weights.get(gram, 0.0) + weight * GRAM_WEIGHT
    return weights


def count_terms(texts: Sequence[str], watch: Watch) -> tuple[list[Bag], int]:
    """The terms of each text, counted, and how many words (or pairs of characters) there are in all."""
    started = perf_counter()
    bags: list[Bag] = []
    total = 0
    for text in texts:
        found = read_terms(text, watch.check)
        bags.append(found.bag(watch.check))
        total += found.total()
    watch.took("tokenize", started)
    return bags, total


def probability(evidence: float) -> float:
    return 1 / (1 + exp(STEEPNESS * (EVEN_ODDS - evidence)))
