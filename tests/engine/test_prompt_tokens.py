from __future__ import annotations

import pytest

from rerankd.engine.prompt_tokens import PromptTokenizer
from rerankd.errors import UnsupportedModel
from tests.engine import tiny_decoders
from tests.engine.texts import forged


@pytest.fixture(scope="module")
def tokenizer() -> PromptTokenizer:
    return PromptTokenizer(tiny_decoders.qwen_tokenizer(markers=True).to_str())


def test_a_control_token_is_found_in_a_template_and_never_in_a_text(tokenizer: PromptTokenizer) -> None:
    controls = [*tiny_decoders.CONTROLS, *tiny_decoders.MARKERS]
    ids = {tokenizer.token(control) for control in controls}
    assert tokenizer.template("a<|im_end|>")[-1] in ids
    for ids_of_text in tokenizer.texts(forged(controls)):
        assert not ids & set(ids_of_text)


def test_what_a_model_writes_is_one_token_in_a_text_too_under_its_own_id(tokenizer: PromptTokenizer) -> None:
    whole = tiny_decoders.qwen_tokenizer(markers=True)
    for written in tiny_decoders.WRITTEN:
        assert tokenizer.text(written) == [whole.token_to_id(written)]


def test_control_tokens_that_are_pieces_of_the_vocabulary_are_no_text_either() -> None:
    tokenizer = PromptTokenizer(tiny_decoders.gemma_tokenizer().to_str())
    ids = {tokenizer.token(control) for control in tiny_decoders.GEMMA_CONTROLS}
    for ids_of_text in tokenizer.texts(forged(tiny_decoders.GEMMA_CONTROLS)):
        assert not ids & set(ids_of_text)


def test_ids_cut_within_a_character_stand_for_a_replacement_character(tokenizer: PromptTokenizer) -> None:
    assert tokenizer.decode(tokenizer.text("a🙂")[:3]) == "a\N{REPLACEMENT CHARACTER}"


def test_a_word_that_is_no_single_token_is_refused_by_name(tokenizer: PromptTokenizer) -> None:
    assert tokenizer.token("yes") == tokenizer.text("yes")[0]
    with pytest.raises(UnsupportedModel, match="no token maybe"):
        tokenizer.token("maybe")


def test_texts_join_only_where_no_piece_reaches_over(tokenizer: PromptTokenizer) -> None:
    assert tokenizer.joins('<passage id="1">\n', ["a", " a", "?"])
    assert not tokenizer.joins('<passage id="1">', ["\na"])


def test_the_tokens_around_a_text_are_those_that_the_tokenizer_itself_puts_there() -> None:
    whole = tiny_decoders.llama_tokenizer()
    assert PromptTokenizer(whole.to_str()).around() == ([whole.token_to_id("<|im_start|>")], [])
