from __future__ import annotations

import pytest

from rerankd.engine.prompt_tokens import PromptTokenizer
from rerankd.engine.shortening import Shortened, shortened
from tests.engine import tiny_decoders


@pytest.fixture(scope="module")
def tokenizer() -> PromptTokenizer:
    return PromptTokenizer(tiny_decoders.qwen_tokenizer().to_str())


def short(tokenizer: PromptTokenizer, text: str, limit: int) -> Shortened:
    return shortened(tokenizer, text, tokenizer.text(text), limit)


def test_a_text_below_the_limit_stays_as_it_is(tokenizer: PromptTokenizer) -> None:
    text = "e\u0301" * 3  # which goes through ids as é
    assert len(tokenizer.text(text)) == 6
    assert short(tokenizer, text, 7) == Shortened(text, 6, tokenizer.text(text))


def test_a_text_of_just_the_limit_goes_through_its_ids_and_is_not_cut(tokenizer: PromptTokenizer) -> None:
    assert short(tokenizer, "e\u0301" * 3, 6) == Shortened("é" * 3, 6, None)


def test_a_longer_text_is_cut_and_a_character_cut_in_two_is_replaced(tokenizer: PromptTokenizer) -> None:
    assert short(tokenizer, "éé", 3) == Shortened("é\N{REPLACEMENT CHARACTER}", 3, None, cut=True)
