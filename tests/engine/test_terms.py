from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rerankd.engine.terms import LONGEST_WORD, grams, read_terms


def words(text: str) -> list[str]:
    found = read_terms(text)
    return [*found.words.elements(), *found.pairs.elements()]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("The Capital of FRANCE!", ["the", "capital", "of", "france"]),
        ("如何预防感冒", ["如何", "何预", "预防", "防感", "感冒"]),
        ("猫", ["猫"]),
        ("Größe ｆｕｌｌ", ["grösse", "full"]),
        ("राजधानी क्या है", ["राजधानी", "क्या", "है"]),
        ("Zürich2024 est-ce", ["zürich2024", "est", "ce"]),
        ("kitâb كِتَاب كتاب", ["kitâb", "كتاب", "كتاب"]),
        ("GPU上运行", ["gpu", "上运", "运行"]),
        ("ประเทศไทย", ["ปร", "ระ", "ะเ", "เท", "ทศ", "ศไ", "ไท", "ทย"]),
        ("... ?!", []),
        ("", []),
    ],
)
def test_words_are_found_in_any_script(text: str, expected: list[str]) -> None:
    assert sorted(words(text)) == sorted(expected)


def test_words_of_three_letters_or_more_have_trigrams_that_know_their_start() -> None:
    assert grams("cats") == ("~^ca", "~cat", "~ats")
    assert grams("of") == ()


def test_inflected_forms_meet_in_trigrams() -> None:
    assert len({*grams("hauptstadt")} & {*grams("hauptstädte")}) >= 5


def test_a_bag_holds_words_pairs_and_the_trigrams_of_each_word_as_often_as_it_stands_there() -> None:
    assert read_terms("cat Cat 中文字").bag() == {"cat": 2, "~^ca": 2, "~cat": 2, "中文": 1, "文字": 1}


@given(text=st.text(max_size=60) | st.text("ab \u4e2d\u6587\u0e01", max_size=60))
def test_every_word_is_in_the_bag_and_nothing_is_counted_twice(text: str) -> None:
    found = read_terms(text)
    bag = found.bag()
    assert sum(times for term, times in bag.items() if not term.startswith("~")) == found.total() == len(words(text))
    assert all(bag[word] == times for word, times in found.words.items())


def test_a_run_of_letters_without_end_is_not_taken_apart_for_ever() -> None:
    found = read_terms("a" * 10**6)
    assert found.total() == 1
    assert found.bag().total() == LONGEST_WORD


def test_a_long_text_is_left_as_soon_as_nobody_waits() -> None:
    asked: list[int] = []

    def check() -> None:
        asked.append(1)
        if len(asked) == 3:
            raise InterruptedError

    with pytest.raises(InterruptedError):
        read_terms("word " * 10**6, check)
