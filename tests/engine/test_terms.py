from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rerankd.engine.terms import LONGEST_WORD, count, terms


def words(text: str) -> list[str]:
    return [term.text for term in terms(text) if not term.is_gram]


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
    assert words(text) == expected


def test_words_of_three_letters_or_more_have_trigrams_that_know_their_start() -> None:
    assert [term.text for term in terms("cats")] == ["cats", "~^ca", "~cat", "~ats"]
    assert [term.text for term in terms("of")] == ["of"]
    assert {term.word for term in terms("cats")} == {"cats"}


def test_inflected_forms_meet_in_trigrams() -> None:
    one, other = ({term.text for term in terms(word)} for word in ("Hauptstadt", "Hauptstädte"))
    assert len(one & other) >= 5


@given(text=st.text(max_size=60) | st.text("ab \u4e2d\u6587\u0e01", max_size=60))
def test_a_document_is_counted_as_its_terms_stand(text: str) -> None:
    bag, plain = count(text, lambda: None)
    assert bag == Counter(term.text for term in terms(text))
    assert plain == len(words(text))


def test_a_run_of_letters_without_end_is_not_taken_apart_for_ever() -> None:
    bag, plain = count("a" * 10**6, lambda: None)
    assert plain == 1
    assert bag.total() == LONGEST_WORD


def test_a_long_text_is_left_as_soon_as_nobody_waits() -> None:
    asked: list[int] = []

    def check() -> None:
        asked.append(1)
        if len(asked) == 3:
            raise InterruptedError

    with pytest.raises(InterruptedError):
        count("word " * 10**6, check)
