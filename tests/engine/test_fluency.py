from __future__ import annotations

import pytest

from rerankd.engine.fluency import Known, Vocabulary, fluency

PIECES = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "the", "of", "and", "berlin", "live", "##s", "##lin", "b", "3", "!"]
IDS = {piece: index for index, piece in enumerate(PIECES)}


def ids(text: str) -> list[int]:
    return [IDS[piece] for piece in text.split()]


@pytest.mark.parametrize(
    ("pieces", "known"),
    [
        ("[CLS] the berlin [SEP]", Known(2, 2)),
        ("[CLS] live ##s the ! [SEP]", Known(1, 2)),
        ("b ##lin", Known(0, 1)),
        ("[UNK] [UNK]", Known(0, 2)),
        ("3 !", Known(0, 1)),
        ("[CLS] [SEP]", Known(0, 0)),
    ],
)
def test_a_word_is_known_when_it_is_one_entry_of_two_letters_or_more(pieces: str, known: Known) -> None:
    assert Vocabulary(IDS).known(ids(pieces)) == known


def test_fluency_goes_from_nothing_to_all() -> None:
    assert fluency(Known(10, 10), [Known(95, 100)]) == 1.0
    assert fluency(Known(0, 10), [Known(5, 100)]) == 0.0
    assert 0.2 < fluency(Known(5, 10), [Known(45, 100)]) < 0.5


def test_both_sides_must_be_known() -> None:
    english, foreign = Known(20, 20), Known(1, 20)
    assert fluency(english, [foreign]) == 0.0
    assert fluency(foreign, [english]) < 0.6
    assert fluency(english, [english]) == 1.0


def test_one_rare_word_does_not_make_a_query_foreign() -> None:
    assert fluency(Known(0, 1), [Known(90, 100)]) > 0.8


def test_texts_without_words_are_not_known() -> None:
    assert fluency(Known(0, 0), [Known(0, 0)]) == 0.0


def test_common_words_are_worth_little_where_the_language_is_known() -> None:
    vocabulary = Vocabulary(IDS)
    assert vocabulary.worth("the", 1.0) < 0.02
    assert vocabulary.worth("the", 1.0) < vocabulary.worth("berlin", 1.0) < vocabulary.worth("xylophone", 1.0) == 1.0
    assert vocabulary.worth("the", 0.0) == 1.0
    assert vocabulary.worth("", 1.0) == 1.0
