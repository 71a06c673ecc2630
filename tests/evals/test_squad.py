from __future__ import annotations

import json
from pathlib import Path

import msgspec
import pytest

from rerankd.evals.squad import read_squad


def test_each_question_is_judged_to_be_answered_by_its_paragraph(tmp_path: Path) -> None:
    articles = [
        {"paragraphs": [{"context": "one", "qas": [{"question": "a", "id": 1}, {"question": "b"}]}]},
        {"paragraphs": [{"context": "two", "qas": []}, {"context": "three", "qas": [{"question": "c"}]}]},
    ]
    path = tmp_path / "x.json"
    path.write_text(json.dumps({"data": articles, "version": "1.1"}))
    judged = read_squad(path)
    assert judged.documents == ["one", "two", "three"]
    assert list(zip(judged.queries, judged.relevant, strict=True)) == [("a", 0), ("b", 0), ("c", 2)]


def test_another_format_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    path.write_text('{"rows": []}')
    with pytest.raises(msgspec.ValidationError):
        read_squad(path)
