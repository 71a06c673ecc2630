"""Measures of a ranking against judgements."""

from __future__ import annotations

from collections.abc import Sequence


def ranking(scores: Sequence[float]) -> list[int]:
    """Document indexes, best first; ties in document order."""
    return sorted(range(len(scores)), key=lambda index: (-scores[index], index))


def reciprocal_rank(scores: Sequence[float], relevant: int, depth: int = 10) -> float:
    """1 / the rank of the one relevant document, 0 below `depth`; its mean over queries is MRR@depth.

    Source: Voorhees, "The TREC-8 Question Answering Track Report", 1999, section 3.
    """
    place = ranking(scores).index(relevant) + 1
    return 1 / place if place <= depth else 0.0
