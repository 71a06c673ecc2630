from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rerankd.engine.checkpoint import Checkpoint
from rerankd.engine.pair_encoding import PairEncoding, own_pairs
from rerankd.engine.pairwise import Pairs
from rerankd.engine.tokens import TextTokenizer, pair_layout
from rerankd.engine.truncation import longest_first, query_capped
from rerankd.errors import BadRequest
from tests.engine import tiny
from tests.engine.asking import request

BERT = tiny.bert_tokenizer()
START, SEPARATOR = 2, 3
LENGTHS = st.integers(0, 40)


def encoding(max_length: int = 20, **habits: Any) -> PairEncoding:
    text = TextTokenizer(BERT.to_str())
    return PairEncoding(text, pair_layout(BERT.to_str(), text), longest_first, max_length, **habits)


def ids(pairs: Pairs) -> list[list[list[int]]]:
    return [[sequence.ids for sequence in windows] for windows in pairs.windows]


def tokens(text: str) -> list[int]:
    found: list[int] = BERT.encode(text, add_special_tokens=False).ids
    return found


@given(query=LENGTHS, document=LENGTHS)
def test_pairs_are_cut_as_the_tokenizers_library_cuts_them(query: int, document: int) -> None:
    whole = tiny.bert_tokenizer()
    whole.enable_truncation(20)
    asked, told = "berlin " * query, "paris " * document
    pairs = encoding()(request(asked, [told]))
    expected = whole.encode_batch([(asked, told)])[0]
    assert ids(pairs) == [[expected.ids]]
    assert pairs.windows[0][0].types == expected.type_ids
    assert list(pairs.truncated) == ([0] if expected.ids.count(tokens("paris")[0]) < document else [])
    assert pairs.query_truncated == (expected.ids.count(tokens("berlin")[0]) < query)


def test_windows_by_hand() -> None:
    """20 tokens: 3 special ones, 2 of the query, so 15 of a document; a quarter of that is 3."""
    document = tokens("paris berlin million capital of the ") * 6
    made = ids(encoding(chunks=None)(request("how many", ["paris berlin million capital of the " * 6])))
    spots = [(0, 15), (12, 27), (21, 36)]
    head = [START, *tokens("how many"), SEPARATOR]
    assert made == [[[*head, *document[start:stop], SEPARATOR] for start, stop in spots]]


def test_a_request_asks_for_windows_of_a_model_that_cuts() -> None:
    one = encoding()(request("how many", ["paris " * 40, "x"], max_chunks_per_doc=2, overlap_tokens=1))
    assert [[len(sequence) for sequence in windows] for windows in one.windows] == [[20, 20], [6]]
    assert list(one.truncated) == [0]
    all_of_it = encoding()(request("how many", ["paris " * 40], max_chunks_per_doc=3, overlap_tokens=1))
    assert list(all_of_it.truncated) == []


def test_a_limit_of_each_document_cuts_it_and_says_so() -> None:
    pairs = encoding(max_length=30)(request("how many", ["paris " * 9, "paris " * 4], max_tokens_per_doc=5))
    assert [len(windows[0]) for windows in pairs.windows] == [10, 9]
    assert list(pairs.truncated) == [0]
    asked_for = encoding()(request("how many", ["paris " * 30], max_tokens_per_doc=5, truncation=False))
    assert [len(windows[0]) for windows in asked_for.windows] == [10]


def test_where_nothing_may_be_cut_an_error_says_which_text_is_too_long() -> None:
    with pytest.raises(BadRequest, match=r"documents\[1\]"):
        encoding()(request("how", ["x", "paris " * 30], truncation=False))
    with pytest.raises(BadRequest, match="query"):
        encoding()(request("how " * 30, ["x"], truncation=False))
    with pytest.raises(BadRequest, match="query"):
        encoding(query_limit=2)(request("how many people", ["x"], truncation=False))
    with pytest.raises(BadRequest, match="query"):
        encoding(chunks=None)(request("how " * 30, ["x"], truncation=False))
    assert encoding()(request("how", ["paris " * 16], truncation=False)).windows


def test_a_querys_limit_holds_however_long_the_document_is() -> None:
    habit: Any
    for habit in ({}, {"chunks": None}):
        pairs = encoding(query_limit=2, **habit)(request("how many people live", ["paris"]))
        assert ids(pairs) == [[[START, *tokens("how many"), SEPARATOR, *tokens("paris"), SEPARATOR]]]
        assert pairs.query_truncated


def test_a_query_that_would_fill_everything_leaves_a_quarter_to_windows() -> None:
    pairs = encoding(chunks=None)(request("how " * 100, ["paris " * 5]))
    assert {len(sequence) for sequence in pairs.windows[0]} == {20}
    assert pairs.query_truncated
    assert ids(pairs)[0][0].count(tokens("how")[0]) == 15


def test_a_very_long_document_is_read_no_further_than_needed() -> None:
    read: list[int | None] = []

    class Watched(TextTokenizer):
        def encode(self, texts: Any, limit: int | None = None) -> list[list[int]]:
            read.append(limit)
            return super().encode(texts, limit)

    text = Watched(BERT.to_str())
    pairs = PairEncoding(text, pair_layout(BERT.to_str(), text), query_capped, 20)
    read.clear()
    pairs(request("how", ["x"]))
    pairs(request("how", ["x"], max_chunks_per_doc=3))
    assert read == [20, 60]


@pytest.mark.parametrize(
    ("fed", "token_types", "typed"),
    [(None, 2, True), (None, 1, False), (None, 0, False), (["input_ids", "attention_mask"], 2, False)],
)
def test_token_types_are_told_to_a_model_that_wants_them(
    fed: list[str] | None, token_types: int, typed: bool, tmp_path: Path
) -> None:
    folder = tiny.write_bert(tmp_path / "model")
    (folder / "tokenizer_config.json").write_text(json.dumps({} if fed is None else {"model_input_names": fed}))
    pairs = own_pairs(Checkpoint(folder), longest_first, 20, token_types=token_types)(request("how", ["paris"]))
    assert any(pairs.windows[0][0].types) == typed
