from __future__ import annotations

from collections import Counter

import pytest

from rerankd.engine.bm25 import scores


def bags(*texts: str) -> list[Counter[str]]:
    return [Counter(text.split()) for text in texts]


def test_every_word_once_in_one_document_of_middling_length_scores_one() -> None:
    found = scores({"red": 1.0, "fox": 1.0}, bags("red fox", "blue cat", "green dog"))
    assert found == [pytest.approx(1.0), 0.0, 0.0]


def test_a_word_that_all_documents_hold_counts_next_to_nothing_among_many() -> None:
    many = bags(*(["what fox"] * 99), "fox dog")
    shared = scores({"fox": 1.0}, many)
    rare = scores({"dog": 1.0}, many)
    assert max(shared) < 0.02
    assert rare[99] > 0.9


def test_repeats_count_less_and_less() -> None:
    one, two, four = scores({"fox": 1.0}, bags("fox a b c", "fox fox b c", "fox fox fox fox"))
    assert one < two < four
    assert two - one > (four - two) / 2


def test_the_same_word_weighs_more_in_a_shorter_document() -> None:
    short, long = scores({"fox": 1.0}, bags("fox", "fox a b c d e f g"))
    assert short > long


def test_a_heavier_word_decides() -> None:
    assert (
        scores({"red": 3.0, "fox": 1.0}, bags("red", "fox"))[0]
        > scores({"red": 1.0, "fox": 3.0}, bags("red", "fox"))[0]
    )


@pytest.mark.parametrize("texts", [[], [""], ["", ""]])
def test_documents_without_words_score_zero(texts: list[str]) -> None:
    assert scores({"fox": 1.0}, bags(*texts)) == [0.0] * len(texts)
    assert scores({}, bags(*texts)) == [0.0] * len(texts)


def test_a_word_that_both_of_two_documents_hold_still_says_something() -> None:
    assert min(scores({"fox": 1.0}, bags("red fox", "blue fox"))) > 0.5
