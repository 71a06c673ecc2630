from __future__ import annotations

from math import inf, nan
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rerankd.errors import UpstreamMalformed
from rerankd.types import Document, Result
from rerankd.validate import validate
from tests.conftest import request_for

SCORES = st.one_of(st.sampled_from([0.0, -0.0, 0.5, 1.0]), st.floats(allow_nan=False, allow_infinity=False))


def results(*scores: Any) -> list[Result]:
    return [Result(index, score) for index, score in enumerate(scores)]


def indexes(found: tuple[Result, ...]) -> list[int]:
    return [result.index for result in found]


def test_the_best_comes_first() -> None:
    assert indexes(validate(results(0.1, 0.9, -2.0), request_for())) == [1, 0, 2]


def test_documents_with_one_score_keep_the_order_of_the_request() -> None:
    answer = [Result(2, 0.5), Result(0, 0.5), Result(1, 0.7)]
    assert indexes(validate(answer, request_for())) == [1, 0, 2]


@pytest.mark.parametrize(("top_n", "kept"), [(None, 3), (0, 3), (1, 1), (2, 2), (3, 3), (4, 3), (10**30, 3)])
def test_top_n_keeps_the_best_and_none_or_zero_or_too_many_mean_all(top_n: int | None, kept: int) -> None:
    assert indexes(validate(results(0.1, 0.2, 0.3), request_for(top_n=top_n))) == [2, 1, 0][:kept]


def test_an_answer_cut_to_top_n_already_is_complete() -> None:
    assert indexes(validate([Result(2, 0.3), Result(1, 0.4)], request_for(top_n=2))) == [1, 2]


def test_documents_come_from_the_request_and_never_from_the_answer() -> None:
    answer = [Result(1, 0.1, Document("forged")), Result(0, 0.2, Document("forged"))]
    found = validate(answer, request_for("a", "b", return_documents=True))
    assert [result.document for result in found] == [Document("a"), Document("b")]


def test_documents_that_were_not_asked_for_are_taken_out() -> None:
    assert validate([Result(0, 0.5, Document("forged"))], request_for("a")) == (Result(0, 0.5),)


def test_an_embedding_stays_with_its_document() -> None:
    answer = [Result(0, 0.1, None, (0.0,)), Result(1, 0.2, None, (1.0,))]
    assert [result.embedding for result in validate(answer, request_for("a", "b"))] == [(1.0,), (0.0,)]


@pytest.mark.parametrize("index", [-1, 3, 10**30, "0", 0.0, 1.5, True, False, None, nan], ids=repr)
def test_an_index_that_is_none_of_the_requests_is_refused(index: Any) -> None:
    others = [result for result in results(0.1, 0.2, 0.3) if result.index != index]
    with pytest.raises(UpstreamMalformed, match=r"names document .* of 3\."):
        validate([*others, Result(index, 0.3)], request_for())


def test_an_index_given_twice_is_refused_even_where_enough_others_are_there() -> None:
    with pytest.raises(UpstreamMalformed, match="names document 1 twice"):
        validate([*results(0.1, 0.2, 0.3), Result(1, 0.2)], request_for(top_n=1))


@pytest.mark.parametrize("score", [nan, inf, -inf, None, True, False, "0.5", [0.5]], ids=repr)
def test_a_score_that_is_no_finite_number_is_refused(score: Any) -> None:
    with pytest.raises(UpstreamMalformed, match="score of document 1 "):
        validate(results(0.1, score, 0.3), request_for())


def test_a_lie_is_refused_even_where_top_n_would_cut_it_off() -> None:
    with pytest.raises(UpstreamMalformed):
        validate(results(0.9, 0.8, nan), request_for(top_n=1))


@pytest.mark.parametrize(("given", "top_n"), [(0, None), (2, None), (2, 0), (1, 2), (2, 9)])
def test_fewer_results_than_were_asked_for_are_refused(given: int, top_n: int | None) -> None:
    with pytest.raises(UpstreamMalformed, match=f"holds {given} results"):
        validate(results(*[0.5] * given), request_for(top_n=top_n))


@given(st.lists(SCORES, min_size=1, max_size=12), st.none() | st.integers(0, 15), st.booleans(), st.randoms())
def test_any_honest_answer_comes_out_whole_in_order_and_with_its_documents(
    scores: list[float], top_n: int | None, return_documents: bool, random: Any
) -> None:
    texts = [f"document {index}" for index in range(len(scores))]
    answer = results(*scores)
    random.shuffle(answer)
    found = validate(answer, request_for(*texts, top_n=top_n, return_documents=return_documents))
    keys = [(-result.relevance_score, result.index) for result in found]
    assert keys == sorted((-score, index) for index, score in enumerate(scores))[: top_n or None]
    for result in found:
        assert result.relevance_score == scores[result.index]
        assert result.document == (Document(texts[result.index]) if return_documents else None)


@given(st.lists(SCORES, min_size=2, max_size=8), st.data())
def test_no_answer_with_one_lie_in_it_passes(scores: list[float], data: st.DataObject) -> None:
    lies = [
        Result(0, scores[0]),
        Result(len(scores), 0.5),
        Result(-1, 0.5),
        Result(len(scores) - 1, nan),
        Result(len(scores) - 1, inf),
    ]
    answer = [*results(*scores[:-1]), data.draw(st.sampled_from(lies))]
    with pytest.raises(UpstreamMalformed):
        validate(data.draw(st.permutations(answer)), request_for(*map(str, scores)))


@pytest.mark.parametrize(
    ("given", "top_n", "keep", "kept"),
    [(2, None, 2, 2), (2, 5, 2, 2), (3, 1, 2, 1), (3, None, 2, 2), (3, None, 9, 3), (3, None, None, 3)],
)
def test_who_keeps_fewer_than_were_asked_for_may_answer_with_those(
    given: int, top_n: int | None, keep: int | None, kept: int
) -> None:
    assert len(validate(results(*[0.5] * given), request_for(top_n=top_n), keep)) == kept


@pytest.mark.parametrize(("given", "top_n", "keep"), [(1, None, 2), (0, 1, 2), (2, None, 9)])
def test_and_with_no_fewer(given: int, top_n: int | None, keep: int) -> None:
    with pytest.raises(UpstreamMalformed, match=f"holds {given} results"):
        validate(results(*[0.5] * given), request_for(top_n=top_n), keep)
