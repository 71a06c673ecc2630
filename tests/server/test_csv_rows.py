from __future__ import annotations

import csv
from io import StringIO

import pytest

from rerankd.server.csv_rows import csv_rows


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", "\n=1", " =1", "  @a"])
def test_no_text_is_taken_for_a_formula(text: str) -> None:
    ((cell,),) = csv.reader(StringIO(csv_rows([[text]]).decode(), newline=""))
    assert cell == f"'{text}"


@pytest.mark.parametrize("text", ["", "a", "a=b", "1-1", "日本", 'quo"ted', "two, parts", "two\nlines", "'=x", "a;b"])
def test_every_other_text_is_read_as_it_was_written(text: str) -> None:
    written = csv_rows([["before", text, "after"]]).decode()
    assert list(csv.reader(StringIO(written, newline=""))) == [["before", text, "after"]]


def test_numbers_stay_numbers_and_lines_end_as_the_format_says() -> None:
    assert csv_rows([["a", "b"], [-5, None], [2**53 + 1, 0]]) == b"a,b\r\n-5,\r\n9007199254740993,0\r\n"
