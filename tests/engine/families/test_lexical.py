from __future__ import annotations

import pytest

from rerankd.engine.families.lexical import Lexical
from rerankd.engine.scorer import Scored, Watch
from rerankd.errors import DeadlineExceeded
from tests.engine.asking import ask, request


def score(query: str, *documents: str) -> Scored:
    return ask(Lexical("lexical"), query, documents)


def test_the_document_with_the_words_comes_first_in_any_script() -> None:
    for query, right, wrong in [
        ("capital of France", "Paris is the capital of France.", "The sky is blue."),
        ("如何预防感冒", "预防感冒应勤洗手", "今天天气很好"),
        ("Столица Франции", "Париж — столица Франции", "Небо голубое"),
        ("Hauptstadt Frankreichs", "Paris ist Frankreichs Hauptstadt", "Der Himmel ist blau"),
    ]:
        first, second = score(query, right, wrong).scores
        assert first > 0.8 > 0.1 > second


def test_scores_lie_between_nothing_and_one_and_a_lone_document_gets_a_meaningful_one() -> None:
    assert score("capital of France", "Paris is the capital of France.").scores[0] > 0.9
    assert score("capital of France", "The sky is blue.").scores[0] < 0.1


@pytest.mark.parametrize("query", ["???", " "])
def test_a_query_without_words_gives_all_documents_the_same_low_score(query: str) -> None:
    assert len(set(score(query, "a", "", "b c").scores)) == 1


def test_an_empty_document_is_legal_and_scores_low() -> None:
    assert score("fox", "", "the fox").scores[0] < 0.05


def test_tokens_count_the_query_once_per_document_and_are_never_zero() -> None:
    assert score("red fox", "one two three", "four").tokens == 4 + 2 * 2
    assert score("?", "!").tokens == 1


def test_work_stops_when_the_deadline_has_passed() -> None:
    with pytest.raises(DeadlineExceeded):
        Lexical("lexical").prepare(request("a", ["b"]), Watch(deadline=0.0))
