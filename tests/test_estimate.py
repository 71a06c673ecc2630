from __future__ import annotations

import json
from pathlib import Path
from time import perf_counter

import msgspec
import pytest

from rerankd.estimate import estimated_request, estimated_tokens
from tests.conftest import request_for

FROM_THE_MIDDLE = {"el": 0.5, "hi": 0.5, "th": 0.75}
"""Languages in which tokenizers themselves differ by a factor of two and more."""


@pytest.mark.parametrize("language", ["ar", "de", "el", "en", "es", "hi", "ro", "ru", "th", "tr", "vi", "zh"])
@pytest.mark.parametrize("tokenizer", ["qwen3", "xlmr-like"])
def test_an_estimate_is_about_what_tokenizers_count(shared: Path, language: str, tokenizer: str) -> None:
    tokenizers = pytest.importorskip("tokenizers")
    counting = tokenizers.Tokenizer.from_file(str(shared / "tokenizers" / tokenizer / "tokenizer.json"))
    articles = json.loads((shared / "data" / "xquad" / f"xquad.{language}.json").read_text())["data"][20:30]
    texts = [paragraph["context"] for article in articles for paragraph in article["paragraphs"][:2]]
    counted = sum(len(counting.encode(text, add_special_tokens=False).ids) for text in texts)
    ratio = sum(map(estimated_tokens, texts)) / counted
    assert abs(ratio - 1) <= FROM_THE_MIDDLE.get(language, 0.25)


@pytest.mark.parametrize("text", ["", " ", "a", "\x00", "\ud800", "é"])
def test_no_text_costs_less_than_a_token(text: str) -> None:
    assert 1 <= estimated_tokens(text) <= 2


def test_digits_and_signs_are_dense() -> None:
    assert estimated_tokens("0123456789" * 10) > 2 * estimated_tokens("abcdefghij" * 10)


def test_the_query_counts_once_for_each_document() -> None:
    query, documents = estimated_tokens("q"), [estimated_tokens(text) for text in ("a" * 40, "b" * 400)]
    assert estimated_request(request_for("a" * 40, "b" * 400)) == 2 * query + sum(documents)


def test_a_cut_that_was_asked_for_is_reckoned_with() -> None:
    cut = msgspec.structs.replace(request_for("word " * 1000, "b"), max_tokens_per_doc=10)
    assert estimated_request(cut) == 2 * estimated_tokens("q") + 10 + estimated_tokens("b")


def test_a_long_text_is_no_work() -> None:
    text = "Ein längerer Text, 北京 " * 100_000
    started = perf_counter()
    estimated_tokens(text)
    assert perf_counter() - started < 0.25
