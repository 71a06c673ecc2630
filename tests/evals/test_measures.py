from __future__ import annotations

import pytest

from rerankd.evals.measures import ranking, reciprocal_rank


def test_ties_keep_document_order() -> None:
    assert ranking([0.5, 0.9, 0.5, 0.9]) == [1, 3, 0, 2]


@pytest.mark.parametrize(("relevant", "expected"), [(0, 1.0), (1, 0.5), (9, 0.1), (10, 0.0), (11, 0.0)])
def test_the_reciprocal_of_the_rank_and_nothing_below_the_depth(relevant: int, expected: float) -> None:
    scores = [float(-index) for index in range(12)]
    assert reciprocal_rank(scores, relevant) == expected
