from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer

from rerankd.engine.listwise_prompt import DOCUMENT, QUERY, ListwisePrompt, sanitised
from rerankd.engine.prompt_tokens import PromptTokenizer
from rerankd.engine.sequences import TokenSequence
from rerankd.engine.shortening import Shortened
from rerankd.errors import EngineError, UnsupportedModel
from tests.engine import tiny_decoders
from tests.engine.decoder_reference import JINA_SYSTEM, jina_prompt
from tests.engine.texts import TEXTS, forged

WHOLE = tiny_decoders.qwen_tokenizer(markers=True)
WORDS = PromptTokenizer(WHOLE.to_str())
PROMPT = ListwisePrompt(WORDS)
MARKED = [*tiny_decoders.CONTROLS, *tiny_decoders.MARKERS]


def text_of(words: PromptTokenizer, text: str) -> Shortened:
    ids = words.text(text)
    return Shortened(text, len(ids), ids)


def block(query: str, *documents: str, instruction: str | None = None) -> TokenSequence:
    return PROMPT.block(text_of(WORDS, query), instruction, [text_of(WORDS, document) for document in documents])


def written(sequence: TokenSequence) -> str:
    return WORDS.decode(sequence.ids)


def test_the_prompt_of_one_document() -> None:
    assert written(block("late trains", "Rain.")) == (
        f"<|im_start|>system\n{JINA_SYSTEM}<|im_end|>\n"
        "<|im_start|>user\n"
        "I will provide you with 1 passages, each indicated by a numerical identifier. Rank the passages based on their "
        "relevance to query: late trains\n"
        '<passage id="0">\nRain.<|embed_token|>\n</passage>\n'
        "<query>\nlate trains<|rerank_token|>\n</query><|im_end|>\n"
        "<|im_start|>assistant\n<think>\n\n</think>\n\n"
    )


def test_the_prompt_of_two_documents_with_an_instruction() -> None:
    assert written(block("late trains", "Rain.", "", instruction="Find delays")).endswith(
        "I will provide you with 2 passages, each indicated by a numerical identifier. Rank the passages based on their "
        "relevance to query: late trains\n"
        "<instruct>\nFind delays\n</instruct>\n"
        '<passage id="0">\nRain.<|embed_token|>\n</passage>\n'
        '<passage id="1">\n<|embed_token|>\n</passage>\n'
        "<query>\nlate trains<|rerank_token|>\n</query><|im_end|>\n"
        "<|im_start|>assistant\n<think>\n\n</think>\n\n"
    )


def test_documents_are_numbered_from_0_in_every_prompt() -> None:
    for count in (125, 1):
        text = written(block("q", *["d"] * count))
        assert re.findall(r'<passage id="(\d+)">', text) == [str(index) for index in range(count)]
        assert f"with {count} passages" in text


def test_the_taps_are_the_markers_of_the_documents_and_then_the_querys() -> None:
    sequence = block("q", "a", "b", "c")
    expected = [*[WHOLE.token_to_id(DOCUMENT)] * 3, WHOLE.token_to_id(QUERY)]
    assert [sequence.ids[tap] for tap in sequence.taps] == expected
    assert list(sequence.taps) == sorted(sequence.taps)


@given(query=TEXTS, documents=st.lists(TEXTS, min_size=1, max_size=4), instruction=st.none() | TEXTS)
def test_ids_made_section_by_section_are_those_of_the_whole_prompt(
    query: str, documents: list[str], instruction: str | None
) -> None:
    assert block(query, *documents, instruction=instruction).ids == (
        WHOLE.encode(jina_prompt(query, documents, instruction), add_special_tokens=False).ids
    )


def test_the_real_tokenizers_ids_are_those_of_the_whole_prompt_too(shared: Path) -> None:
    whole = Tokenizer.from_file(str(shared / "tokenizers/qwen3/tokenizer.json"))
    words = PromptTokenizer(whole.to_str())
    prompt = ListwisePrompt(words)

    @given(query=TEXTS, documents=st.lists(TEXTS, min_size=1, max_size=4), instruction=st.none() | TEXTS)
    def ids_agree(query: str, documents: list[str], instruction: str | None) -> None:
        made = prompt.block(text_of(words, query), instruction, [text_of(words, document) for document in documents])
        assert made.ids == whole.encode(jina_prompt(query, documents, instruction), add_special_tokens=False).ids

    ids_agree()


def test_no_text_adds_a_control_token_or_a_marker() -> None:
    controls = {WHOLE.token_to_id(control) for control in MARKED}
    expected = [identity for identity in block("a", "b", "c", instruction="d").ids if identity in controls]
    for text in map(sanitised, forged(MARKED)):
        made = block(text, text, "c", instruction=text)
        assert [identity for identity in made.ids if identity in controls] == expected, text


@pytest.mark.parametrize(
    ("text", "cleaned"),
    [
        ("nothing <|im_end|> here <|score_token|>", "nothing <|im_end|> here <|score_token|>"),
        ("<|rerank_token|>two", "two"),
        ("thr<|embed_token|>ee<|embed_token|>", "three"),
        ("<|rerank_<|embed_token|>token|>", ""),
        ("<|embed_<|rerank_token|>token|>", ""),
        ("<|embed_<|embed_token|>token|>", ""),
        ("a<|rerank_<|embed_<|rerank_token|>token|>token|>b", "ab"),
    ],
)
def test_markers_are_taken_out_of_texts_until_none_is_left(text: str, cleaned: str) -> None:
    assert sanitised(text) == cleaned


@given(
    st.lists(st.sampled_from(["<|", "embed_", "rerank_", "token|", ">", DOCUMENT, QUERY, "a"]), max_size=30).map(
        "".join
    )
)
def test_taking_markers_out_one_by_one_in_any_order_ends_the_same(text: str) -> None:
    expected = text
    while DOCUMENT in expected or QUERY in expected:
        expected = expected.replace(QUERY, "").replace(DOCUMENT, "")
    assert sanitised(text) == expected


def test_markers_nested_a_hundred_thousand_deep_cost_no_more_than_their_characters() -> None:
    assert sanitised("<|rerank_" * 100_000 + QUERY + "token|>" * 100_000 + "a") == "a"


def test_a_prompt_with_a_marker_too_many_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(WORDS, "texts", lambda texts: [WORDS.template(text) for text in texts])
    with pytest.raises(EngineError, match="markers"):
        PROMPT.block(Shortened("q", 1, None), None, [Shortened(f"a{DOCUMENT}", 1, None)])


def test_a_tokenizer_without_markers_is_refused() -> None:
    with pytest.raises(UnsupportedModel, match="embed_token"):
        ListwisePrompt(PromptTokenizer(tiny_decoders.qwen_tokenizer().to_str()))
