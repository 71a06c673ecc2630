from __future__ import annotations

from itertools import combinations
from math import sqrt

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rerankd.evals.measures import kendall_tau, ranking, reciprocal_rank, top_overlap

PAIRS = st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), max_size=12)
"""Two scores of each document, few enough of them to be tied often."""


def test_ties_keep_document_order() -> None:
    assert ranking([0.5, 0.9, 0.5, 0.9]) == [1, 3, 0, 2]


@pytest.mark.parametrize(("relevant", "expected"), [(0, 1.0), (1, 0.5), (9, 0.1), (10, 0.0), (11, 0.0)])
def test_the_reciprocal_of_the_rank_and_nothing_below_the_depth(relevant: int, expected: float) -> None:
    scores = [float(-index) for index in range(12)]
    assert reciprocal_rank(scores, relevant) == expected


@pytest.mark.parametrize(
    ("one", "other", "tau"),
    [
        ([1, 2, 3], [10, 20, 30], 1.0),
        ([1, 2, 3], [3, 2, 1], -1.0),
        ([1, 2, 3, 4], [1, 2, 4, 3], 2 / 3),
        ([12, 2, 1, 12, 2], [1, 4, 7, 1, 0], -0.47140452079103173),  # the example of scipy.stats.kendalltau
        ([1, 1, 2], [1, 1, 2], 1.0),
        ([1, 1, 2], [1, 2, 3], 2 / sqrt(2 * 3)),
    ],
)
def test_kendalls_tau_of_orders_that_are_known(one: list[float], other: list[float], tau: float) -> None:
    assert kendall_tau(one, other) == pytest.approx(tau, abs=1e-12)


@pytest.mark.parametrize(("one", "other"), [([], []), ([1], [2]), ([1, 1], [1, 2]), ([1, 2], [3, 3])])
def test_where_there_is_no_order_there_is_no_tau(one: list[float], other: list[float]) -> None:
    assert kendall_tau(one, other) is None


@given(PAIRS)
def test_kendalls_tau_is_what_its_definition_says_pair_by_pair(pairs: list[tuple[int, int]]) -> None:
    signs = [((a > c) - (a < c), (b > d) - (b < d)) for (a, b), (c, d) in combinations(pairs, 2)]
    untied_one, untied_other = (sum(sign[side] != 0 for sign in signs) for side in (0, 1))
    tau = kendall_tau([one for one, _ in pairs], [other for _, other in pairs])
    if not untied_one or not untied_other:
        assert tau is None
    else:
        assert tau == pytest.approx(sum(a * b for a, b in signs) / sqrt(untied_one * untied_other), abs=1e-12)


def test_the_overlap_is_of_the_best_and_not_of_their_order() -> None:
    one = [float(-index) for index in range(20)]
    assert top_overlap(one, [*reversed(one[:10]), *one[10:]]) == 1.0
    assert top_overlap(one, list(reversed(one))) == 0.0
    assert top_overlap(one, [-100.0, *one[1:]]) == 0.9
    assert top_overlap(one, list(reversed(one)), depth=15) == 10 / 15


def test_of_fewer_documents_than_the_depth_all_are_in_common() -> None:
    assert top_overlap([1.0, 2.0, 3.0], [3.0, 2.0, 1.0]) == 1.0
