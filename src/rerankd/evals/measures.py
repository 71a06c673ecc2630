"""Measures of a ranking against judgements, and of how far two rankings of the same documents agree."""

from __future__ import annotations

from bisect import bisect_right, insort
from collections import Counter
from collections.abc import Iterable, Sequence
from math import comb, sqrt


def ranking(scores: Sequence[float]) -> list[int]:
    """Document indexes, best first; ties in document order."""
    return sorted(range(len(scores)), key=lambda index: (-scores[index], index))


def reciprocal_rank(scores: Sequence[float], relevant: int, depth: int = 10) -> float:
    """1 / the rank of the one relevant document, 0 below `depth`; its mean over queries is MRR@depth.

    Source: Voorhees, "The TREC-8 Question Answering Track Report", 1999, section 3.
    """
    place = ranking(scores).index(relevant) + 1
    return 1 / place if place <= depth else 0.0


def kendall_tau(one: Sequence[float], other: Sequence[float]) -> float | None:
    """How far two lists of scores put the same documents in the same order: 1 for the same order, -1 for the reverse.

    tau-b: the pairs in the same order less those in reverse order, over the geometric mean of the pairs that each list
    does not tie. None where a list ties all of them, or there is no pair.
    Source: Kendall, "The treatment of ties in ranking problems", Biometrika 33(3), 1945, p. 239-251.
    """
    both = sorted(zip(one, other, strict=True))
    pairs = comb(len(both), 2)
    tied_one, tied_other, tied_both = _tied(one), _tied(other), _tied(both)
    if pairs in (tied_one, tied_other):
        return None
    reverse = _reversed_pairs([second for _, second in both])
    same = pairs - tied_one - tied_other + tied_both - reverse
    return (same - reverse) / sqrt((pairs - tied_one) * (pairs - tied_other))


def top_overlap(one: Sequence[float], other: Sequence[float], depth: int = 10) -> float:
    """The share of the best `depth` documents that two lists of scores have in common; of all, where there are fewer."""
    depth = min(depth, len(one))
    return len({*ranking(one)[:depth]} & {*ranking(other)[:depth]}) / depth


def _tied(values: Iterable[object]) -> int:
    """Pairs of equal values."""
    return sum(comb(times, 2) for times in Counter(values).values())


def _reversed_pairs(values: Sequence[float]) -> int:
    """Pairs of which the greater comes first."""
    before: list[float] = []
    found = 0
    for value in values:
        found += len(before) - bisect_right(before, value)
        insort(before, value)
    return found
