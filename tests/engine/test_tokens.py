from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rerankd.engine import tokens
from rerankd.engine.packing import TokenSequence
from rerankd.engine.tokens import TextTokenizer, pair_layout, single_layout
from rerankd.errors import UnsupportedModel
from tests.engine import tiny

TOKENIZERS = {"xlmr": tiny.xlmr_tokenizer(), "bert": tiny.bert_tokenizer()}
TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="<>[]"), max_size=40)


@pytest.mark.parametrize("name", TOKENIZERS)
@given(query=TEXTS, document=TEXTS)
def test_ids_joined_by_hand_equal_the_tokenizers_own_pair(name: str, query: str, document: str) -> None:
    whole = TOKENIZERS[name]
    text = TextTokenizer(whole.to_str())
    layout = pair_layout(whole.to_str(), text)
    joined = layout.pair(*text.encode([query, document]))
    expected = whole.encode_batch([(query, document)])[0]
    assert (joined.ids, joined.types) == (expected.ids, expected.type_ids)


@pytest.mark.parametrize("name", TOKENIZERS)
@given(single=TEXTS)
def test_one_text_alone_gets_the_tokenizers_own_ids(name: str, single: str) -> None:
    whole = TOKENIZERS[name]
    text = TextTokenizer(whole.to_str())
    assert single_layout(whole.to_str(), text).single(text.encode([single])[0]).ids == whole.encode(single).ids


@pytest.mark.parametrize("name", TOKENIZERS)
def test_the_ids_of_a_very_long_text_are_exact_as_far_as_the_limit(name: str) -> None:
    text = TextTokenizer(TOKENIZERS[name].to_str())
    long = "how many people live in berlin? " * 2000
    spaced = ("how" + " " * 300) * 600
    for whole in (long, spaced):
        (limited,) = text.encode([whole], limit=100)
        (everything,) = text.encode([whole])
        assert limited[:101] == everything[:101]
    assert len(text.encode([long], limit=100)[0]) < len(text.encode([long])[0])


def test_a_tokenizer_that_cannot_be_joined_by_hand_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = TOKENIZERS["bert"].to_str()
    monkeypatch.setattr(tokens.Layout, "pair", lambda *_: TokenSequence([], []))
    with pytest.raises(UnsupportedModel):
        pair_layout(whole, TextTokenizer(whole))


def test_the_vocabulary_keeps_its_ids(tmp_path: Path) -> None:
    whole = TOKENIZERS["bert"]
    vocabulary = TextTokenizer(whole.to_str()).vocabulary()
    assert vocabulary["berlin"] == whole.token_to_id("berlin")
    assert "[SEP]" not in vocabulary
