from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rerankd.engine import tokens
from rerankd.engine.sequences import TokenSequence
from rerankd.engine.tokens import TextTokenizer, pair_layout, single_layout
from rerankd.errors import UnsupportedModel
from tests.engine import tiny, tiny_decoders, tiny_encoders

TOKENIZERS = {
    "xlmr": tiny.xlmr_tokenizer(),
    "bert": tiny.bert_tokenizer(),
    "roberta": tiny_encoders.roberta_tokenizer(),
    "modernbert": tiny_encoders.modernbert_tokenizer(),
    "deberta": tiny_encoders.deberta_tokenizer(),
    "mpnet": tiny_encoders.mpnet_tokenizer(),
}
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


def test_added_tokens_that_are_no_control_tokens_keep_their_ids() -> None:
    whole = tiny_decoders.qwen_tokenizer(markers=True)
    text = TextTokenizer(whole.to_str())
    for written in tiny_decoders.WRITTEN:
        assert text.encode([f"a{written}"])[0][1:] == [whole.token_to_id(written)]
    controls = {whole.token_to_id(name) for name in (*tiny_decoders.CONTROLS, *tiny_decoders.MARKERS)}
    for control in (*tiny_decoders.CONTROLS, *tiny_decoders.MARKERS):
        assert not controls & set(text.encode([control])[0])


def test_a_tokenizer_with_a_gap_among_its_added_tokens_is_refused() -> None:
    described = json.loads(tiny_decoders.qwen_tokenizer().to_str())
    del described["added_tokens"][2]
    with pytest.raises(UnsupportedModel, match="cannot be kept"):
        TextTokenizer(json.dumps(described))


def test_the_vocabulary_keeps_its_ids(tmp_path: Path) -> None:
    whole = TOKENIZERS["bert"]
    vocabulary = TextTokenizer(whole.to_str()).vocabulary()
    assert vocabulary["berlin"] == whole.token_to_id("berlin")
    assert "[SEP]" not in vocabulary


@pytest.mark.parametrize("name", TOKENIZERS)
@given(data=st.data())
def test_no_text_gives_the_id_of_a_control_token(name: str, data: st.DataObject) -> None:
    whole = TOKENIZERS[name]
    controls = {token.content: index for index, token in whole.get_added_tokens_decoder().items()}
    pieces = st.lists(st.one_of(st.sampled_from(sorted(controls)), st.text(max_size=3)), max_size=6)
    nested = st.builds(
        lambda one, other, place: one[:place] + other + one[place:],
        st.sampled_from(sorted(controls)),
        st.sampled_from(sorted(controls)),
        st.integers(0, 6),
    )
    text = data.draw(st.one_of(pieces.map("".join), nested))
    forbidden = {index for control, index in controls.items() if control not in ("<unk>", "[UNK]")}
    (ids,) = TextTokenizer(whole.to_str()).encode([text])
    assert not forbidden & set(ids)


def test_a_layout_for_a_model_without_token_types() -> None:
    whole = TOKENIZERS["bert"].to_str()
    layout = pair_layout(whole, TextTokenizer(whole))
    assert layout.pair([7], [8]).types == [0, 0, 0, 1, 1]
    assert layout.untyped().pair([7], [8]).types == [0] * 5
    assert layout.untyped().pair([7], [8]).ids == layout.pair([7], [8]).ids
