from __future__ import annotations

import pytest

from rerankd.evals.made_texts import FAR, NEAR, made_documents


def test_the_texts_are_the_same_each_time_and_fewer_are_the_first_of_more() -> None:
    assert made_documents(20, 40) == made_documents(20, 40)
    assert made_documents(20, 40) == made_documents(50, 40)[:20]


@pytest.mark.parametrize("words", [3, 12, 13, 200])
def test_a_document_has_as_many_words_as_asked_for_and_sentences(words: int) -> None:
    for text in made_documents(10, words):
        assert len(text.split()) == words
        assert text[0].isupper()
        assert text.endswith(".")


def test_no_two_documents_are_equal_however_short_they_are_for_equal_ones_would_be_computed_once() -> None:
    assert len(set(made_documents(5_000, 1))) == 5_000


def test_some_documents_are_nearer_to_the_query_than_others() -> None:
    def nearness(text: str) -> float:
        words = text.lower().replace(".", "").split()
        near, far = (sum(word in topic for word in words) for topic in (NEAR, FAR))
        return near / (near + far)

    found = [nearness(text) for text in made_documents(50, 200)]
    assert min(found) < 0.2
    assert max(found) > 0.8
