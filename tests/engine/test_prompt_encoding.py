from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer

from rerankd.engine.families.gemma_prompt import GemmaPrompt
from rerankd.engine.families.mxbai_prompt import MxbaiPrompt
from rerankd.engine.families.nemotron import NemotronPrompt
from rerankd.engine.families.qwen3_prompt import Qwen3Prompt
from rerankd.engine.prompt_encoding import PromptEncoding
from rerankd.engine.prompt_tokens import PromptTokenizer
from rerankd.engine.sequences import TokenSequence
from rerankd.errors import BadRequest, LoadError, UnsupportedModel
from rerankd.types import Document, RerankRequest
from tests.engine import decoder_reference as reference
from tests.engine import tiny_decoders
from tests.engine.texts import TEXTS, forged

MOST = 100_000
QWEN, GEMMA, LLAMA = tiny_decoders.qwen_tokenizer(), tiny_decoders.gemma_tokenizer(), tiny_decoders.llama_tokenizer()
TOKENIZERS = {Qwen3Prompt: QWEN, MxbaiPrompt: QWEN, GemmaPrompt: GEMMA, NemotronPrompt: LLAMA}


def nemotron_ids(word: reference.Words, query: str, document: str) -> list[int]:
    return [*word.ours("<|im_start|>"), *word.theirs(f"question:{query} \n \n passage:{document}")]


IDS: dict[Any, Callable[..., list[int]]] = {
    Qwen3Prompt: reference.qwen3_ids,
    MxbaiPrompt: reference.mxbai_ids,
    GemmaPrompt: reference.gemma_ids,
    NemotronPrompt: nemotron_ids,
}


def encoding(
    prompt: Any, tokenizer: Tokenizer | None = None, wanted: int | None = None, **habits: Any
) -> PromptEncoding:
    words = PromptTokenizer((tokenizer or TOKENIZERS[prompt]).to_str())
    return PromptEncoding(words, prompt(words, MOST, wanted), **habits)


ENCODINGS = {prompt: encoding(prompt) for prompt in TOKENIZERS}
QWEN3_ROOM = 8192 - len(reference.qwen3_ids(reference.Words(QWEN), "", "", None, 0))


def request_of(query: str, *documents: str, **options: Any) -> RerankRequest:
    return RerankRequest(query=query, documents=tuple(map(Document, documents)), **options)


def fed(sequence: TokenSequence) -> list[int]:
    return [*(sequence.prefix.ids if sequence.prefix else ()), *sequence.ids]


def prompts(encode: PromptEncoding, query: str, *documents: str, **options: Any) -> list[list[int]]:
    return [fed(window) for windows in encode(request_of(query, *documents, **options)).windows for window in windows]


@pytest.mark.parametrize("prompt", TOKENIZERS)
@given(query=TEXTS, documents=st.lists(TEXTS, min_size=1, max_size=3))
def test_ids_are_those_of_texts_tokenised_whole(prompt: Any, query: str, documents: list[str]) -> None:
    word = reference.Words(TOKENIZERS[prompt])
    expected = [IDS[prompt](word, query, document) for document in documents]
    assert prompts(ENCODINGS[prompt], query, *documents) == expected


@pytest.mark.parametrize("prompt", [Qwen3Prompt, MxbaiPrompt])
def test_ids_of_the_real_tokenizer_are_those_of_texts_tokenised_whole(prompt: Any, shared: Path) -> None:
    whole = Tokenizer.from_file(str(shared / "tokenizers/qwen3/tokenizer.json"))
    word, encode = reference.Words(whole), encoding(prompt, whole)

    @given(query=TEXTS, documents=st.lists(TEXTS, min_size=1, max_size=3), instruction=TEXTS.filter(bool))
    def ids_agree(query: str, documents: list[str], instruction: str) -> None:
        expected = [IDS[prompt](word, query, document, instruction) for document in documents]
        assert prompts(encode, query, *documents, instruction=instruction) == expected

    ids_agree()


@pytest.mark.parametrize("prompt", TOKENIZERS)
def test_no_text_becomes_a_control_token(prompt: Any) -> None:
    tokenizer = TOKENIZERS[prompt]
    names = tiny_decoders.GEMMA_CONTROLS if prompt is GemmaPrompt else tiny_decoders.CONTROLS
    controls = {tokenizer.token_to_id(name) for name in names}
    encode = ENCODINGS[prompt]
    [plain] = prompts(encode, "a", "b", instruction="c")
    expected = [identity for identity in plain if identity in controls]
    for text in forged(names):
        [made] = prompts(encode, text, text, instruction=text)
        assert [identity for identity in made if identity in controls] == expected, text


def test_what_all_documents_share_is_one_object_and_ends_before_the_first_of_them() -> None:
    pairs = ENCODINGS[Qwen3Prompt](request_of("query", "a", "b"))
    (first,), (second,) = pairs.windows
    assert first.prefix is not None
    assert first.prefix is second.prefix
    assert QWEN.decode(first.prefix.ids, skip_special_tokens=False).endswith("\n<Query>: query\n<Document>:")
    assert QWEN.decode(first.ids, skip_special_tokens=False).startswith(" a<|im_end|>")
    assert first.taps == second.taps == (-1,)


def test_without_reuse_every_prompt_is_whole() -> None:
    texts = ("a", "", "\nb")
    apart = encoding(Qwen3Prompt, reuse=False)
    windows = [window for (window,) in apart(request_of("query", *texts)).windows]
    assert all(window.prefix is None for window in windows)
    assert [window.ids for window in windows] == prompts(ENCODINGS[Qwen3Prompt], "query", *texts)


@pytest.mark.parametrize("prompt", [Qwen3Prompt, MxbaiPrompt])
def test_the_requests_instruction_comes_before_the_settings_and_that_before_the_models_own(prompt: Any) -> None:
    word = reference.Words(QWEN)
    assert prompts(encoding(prompt), "q", "d") == [IDS[prompt](word, "q", "d")]
    configured = encoding(prompt, instruction="Find yes")
    assert prompts(configured, "q", "d") == [IDS[prompt](word, "q", "d", "Find yes")]
    assert prompts(configured, "q", "d", instruction="Find no") == [IDS[prompt](word, "q", "d", "Find no")]


@pytest.mark.parametrize("over", [-1, 0, 1, 500])
def test_qwen3_cuts_the_end_of_the_body(over: int) -> None:
    word = reference.Words(QWEN)
    room = QWEN3_ROOM - len(word.theirs(f"<Instruct>: {reference.QWEN3_INSTRUCTION}\n<Query>: q\n<Document>:"))
    document = "1" * (room - 1 + over)  # a token a digit, and the blank before it
    pairs = ENCODINGS[Qwen3Prompt](request_of("q", document))
    assert [fed(pairs.windows[0][0])] == [reference.qwen3_ids(word, "q", document)]
    assert (list(pairs.truncated), pairs.query_truncated) == ([0] if over > 0 else [], False)


def test_a_query_that_fills_qwen3s_body_leaves_no_document() -> None:
    word, query = reference.Words(QWEN), "1" * 9000
    pairs = ENCODINGS[Qwen3Prompt](request_of(query, "a", "b"))
    assert [fed(window) for (window,) in pairs.windows] == [reference.qwen3_ids(word, query, "a")] * 2
    assert (list(pairs.truncated), pairs.query_truncated) == ([0, 1], True)


@pytest.mark.parametrize("prompt", [MxbaiPrompt, GemmaPrompt])
@pytest.mark.parametrize(
    ("query", "document"), [(3, 9000), (7000, 3000), (6137, 2048), (300, 300), (383, 20), (9000, 9000)]
)
def test_mxbai_and_gemma_cap_the_query_and_cut_the_document(prompt: Any, query: int, document: int) -> None:
    texts = ("1" * query, "0" * document)
    assert prompts(ENCODINGS[prompt], *texts) == [IDS[prompt](reference.Words(TOKENIZERS[prompt]), *texts)]


@pytest.mark.parametrize("prompt", TOKENIZERS)
def test_max_length_is_that_of_the_whole_prompt(prompt: Any) -> None:
    words = PromptTokenizer(TOKENIZERS[prompt].to_str())
    for wanted in (600, 9000):
        encode = encoding(prompt, wanted=wanted)
        assert prompt(words, MOST, wanted).max_length == wanted
        lengths = [len(ids) for ids in prompts(encode, "1" * 100, "0" * 20_000, "0", "")]
        assert wanted - 20 <= lengths[0] <= wanted
        assert lengths[2] < lengths[1] < lengths[0]
    assert prompt(words, 700, 9000).max_length == 700


@pytest.mark.parametrize("prompt", [Qwen3Prompt, MxbaiPrompt, GemmaPrompt])
def test_a_max_length_below_the_template_is_refused(prompt: Any) -> None:
    with pytest.raises(LoadError, match="max_length of 40"):
        encoding(prompt, wanted=40)


@pytest.mark.parametrize("prompt", TOKENIZERS)
def test_max_tokens_per_doc_cuts_the_document_alone(prompt: Any) -> None:
    encode = ENCODINGS[prompt]
    pairs = encode(request_of("q", "1" * 50, "1", max_tokens_per_doc=5, truncation=False))
    [short], [long] = (encode(request_of("q", text)).windows[0] for text in ("1", "1" * 50))
    cut = pairs.windows[0][0]
    assert fed(short)[: len(fed(short)) - len(short.ids)] == fed(cut)[: len(fed(cut)) - len(cut.ids)]
    assert len(fed(long)) > len(fed(cut)) > len(fed(short))
    assert list(pairs.truncated) == [0]


@pytest.mark.parametrize("prompt", TOKENIZERS)
def test_where_truncation_is_off_a_text_that_is_too_long_is_an_error_that_names_it(prompt: Any) -> None:
    encode = encoding(prompt, wanted=600)
    with pytest.raises(BadRequest) as caught:
        encode(request_of("q", "a", "1" * 600, truncation=False))
    assert caught.value.param == "documents[1]"
    with pytest.raises(BadRequest) as caught:
        encode(request_of("1" * 600, "a", truncation=False))
    assert caught.value.param == "query"
    assert encode(request_of("q", "a", truncation=False)).truncated == []


def test_a_long_document_is_read_in_overlapping_windows_where_that_is_asked_for() -> None:
    encode = encoding(Qwen3Prompt, wanted=600)
    document = "".join(str(index % 10) for index in range(700))
    asked = request_of("q", document, "1", max_chunks_per_doc=20, overlap_tokens=10)
    windows, single = encode(asked).windows
    assert len(windows) > 2
    assert len(single) == 1
    texts = [QWEN.decode(window.ids, skip_special_tokens=False).partition("<|im_end|>")[0] for window in windows]
    assert texts[0][-10:] == texts[1][:10]
    assert texts[0].strip() + texts[1][10:] == document[: len(texts[0]) - 1 + len(texts[1]) - 10]
    assert document.endswith(texts[-1])
    assert list(encode(asked).truncated) == []
    assert all(len(fed(window)) <= 600 for window in windows)


def test_the_users_own_limit_of_the_query_cuts_it_and_says_so() -> None:
    encode = encoding(Qwen3Prompt, query_limit=5)
    assert prompts(encode, "123456789", "d") == prompts(ENCODINGS[Qwen3Prompt], "12345", "d")
    assert encode(request_of("123456789", "d")).query_truncated
    assert not encode(request_of("12345", "d")).query_truncated
    with pytest.raises(BadRequest, match="9 tokens where 5 fit"):
        encode(request_of("123456789", "d", truncation=False))


def test_a_tokenizer_that_takes_a_document_together_with_the_label_is_refused() -> None:
    with pytest.raises(UnsupportedModel, match="together with the words before it"):
        encoding(GemmaPrompt, tiny_decoders.gemma_tokenizer([*tiny_decoders.PIECES, ": "]))
