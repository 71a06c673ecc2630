from __future__ import annotations

import json
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rerankd.cli.terminal import BAR, EIGHTHS, fail, loading_bars, print_json, printable, score_bar
from rerankd.errors import RerankError


@given(st.text())
def test_whatever_a_document_holds_is_printed_on_one_line_without_control_characters(text: str) -> None:
    shown = printable(text)
    assert not any(unicodedata.category(character) == "Cc" for character in shown)
    assert len(shown.splitlines()) <= 1
    assert printable(shown) == shown


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain", "plain"),
        ("two\nlines\r\n", "two lines"),
        ("\x1b[31mred\x1b[0m", "[31mred [0m"),
        ("bell\x07 \x9b31m", "bell 31m"),
        ("  a \t b  ", "a b"),
        ("雪 e\u0301 \U0001f600", "雪 e\u0301 \U0001f600"),
        ("", ""),
    ],
)
def test_text_is_shown_without_what_could_steer_a_terminal(text: str, shown: str) -> None:
    assert printable(text) == shown


@given(st.floats(allow_nan=False), st.booleans())
def test_a_bar_is_always_of_one_width_and_of_signs_that_can_be_shown(share: float, unicode: bool) -> None:
    bar = score_bar(share, unicode=unicode)
    assert len(bar) == BAR
    assert set(bar) <= (set(EIGHTHS) if unicode else {"#", " "})


@given(st.floats(0, 1), st.floats(0, 1), st.booleans())
def test_a_higher_score_never_has_the_shorter_bar(one: float, other: float, unicode: bool) -> None:
    def length(share: float) -> tuple[int, ...]:
        return tuple((EIGHTHS + "#").index(sign) for sign in score_bar(share, unicode=unicode))

    low, high = sorted((one, other))
    assert length(low) <= length(high)


def test_an_empty_and_a_full_bar_are_empty_and_full() -> None:
    assert (score_bar(0.0), score_bar(1.0)) == (" " * BAR, "█" * BAR)
    assert (score_bar(-3.0), score_bar(7.0)) == (" " * BAR, "█" * BAR)
    assert score_bar(0.5, unicode=False) == "########        "


def test_an_error_goes_to_standard_error_as_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    assert fail(RerankError("There is no [bold]model[/red].")) == 1
    assert capsys.readouterr() == ("", "error: There is no [bold]model[/red].\n")


def test_json_is_one_line_in_the_documents_own_characters(capsys: pytest.CaptureFixture[str]) -> None:
    print_json({"text": "雪\n", "score": 0.5})
    out = capsys.readouterr().out
    assert out.count("\n") == 1
    assert "雪" in out
    assert json.loads(out) == {"text": "雪\n", "score": 0.5}


def test_loading_bars_are_silent_without_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    with loading_bars() as progress:
        progress("model", "downloading", 1.0, 2.0)
        progress("model", "loading", 2.0, 2.0)
    assert capsys.readouterr() == ("", "")
