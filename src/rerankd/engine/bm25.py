"""BM25 over the request's own documents, on an absolute scale.

1 is: each word of the query stands once in a document of middling length, and in no other. A word that every document
holds counts next to nothing, so where a first stage has matched the words already, BM25 falls silent by itself instead
of letting stop words decide (Robertson and Zaragoza, "The Probabilistic Relevance Framework: BM25 and Beyond", 2009,
section 3; the idf is Lucene's, with ABSENT imagined documents).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from math import log

K1 = 0.9
"""How soon repeats stop counting."""
B = 0.75
"""How much length counts."""
GRAM_WEIGHT = 1 / 3
"""Each letter lies in three trigrams."""
ABSENT = 3
"""Imagined documents without any word of the query; without them a word that both of two documents hold says nothing."""

Bag = Counter[str]


def scores(weights: Mapping[str, float], bags: Sequence[Bag]) -> list[float]:
    """One score per bag of terms, 0 or more; `weights` are those of the query's terms, more than 0."""
    lengths = [max(1, bag.total()) for bag in bags]
    mean = sum(lengths) / max(1, len(lengths))
    total = sum(weights.values())
    everything = len(bags) + ABSENT + 1
    rarest = log(everything / 1.5)
    found = [0.0] * len(bags)
    for term, weight in weights.items():
        holders = [(index, bag[term]) for index, bag in enumerate(bags) if term in bag]
        rarity = weight / total * log(everything / (len(holders) + 0.5)) / rarest
        for index, count in holders:
            room = K1 * (1 - B + B * lengths[index] / mean)
            found[index] += rarity * count * (K1 + 1) / (count + room)
    return found
