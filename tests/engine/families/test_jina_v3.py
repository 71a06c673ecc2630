from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import Qwen3Config

from rerankd.engine.checkpoint import Checkpoint
from rerankd.engine.families import jina_v3
from rerankd.engine.families.jina_v3 import Limits, Listwise, limits_of
from rerankd.engine.families.recipe import Loading
from rerankd.engine.loading import ModelSpec, load_scorer
from rerankd.engine.prompt_tokens import PromptTokenizer
from rerankd.engine.scorer import Scored, Watch, run_all, score
from rerankd.errors import BadRequest, LoadError, UnsupportedModel
from rerankd.types import Document, RerankRequest
from tests.engine import decoder_reference as reference
from tests.engine import tiny_decoders
from tests.engine.texts import forged

QUERY = "How many people live in Berlin?"
DOCUMENTS = ["3.7 million people", "", "\n\nno passage, yes", "你好 🙂", " Berlin " * 40, "no", "3.7 million people"]
CONTROLS = [*tiny_decoders.CONTROLS, *tiny_decoders.MARKERS]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_decoders.write_jina(tmp_path_factory.mktemp("v3"), max_position_embeddings=131072)


@pytest.fixture(scope="module")
def windowed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_decoders.write_jina(tmp_path_factory.mktemp("v3.5"), window=32, max_position_embeddings=131072)


@pytest.fixture(scope="module")
def model(folder: Path) -> Listwise:
    return load(folder)


def load(folder: Path, **options: Any) -> Listwise:
    scorer = load_scorer(ModelSpec("m", str(folder), "cpu", "float32", **options), lambda *_: None)
    assert isinstance(scorer, Listwise)
    return scorer


def limited(model: Listwise, query: int = 512, document: int = 2048, prompt: int = 131072) -> Listwise:
    """The same model with other limits."""
    tokenizer = PromptTokenizer(tiny_decoders.qwen_tokenizer(markers=True).to_str())
    return Listwise(model.card, model.runner, tokenizer, Limits(query, document, prompt))


def request_of(*documents: str, query: str = QUERY, **options: Any) -> RerankRequest:
    return RerankRequest(query=query, documents=tuple(map(Document, documents)), **options)


def scored(model: Listwise, *documents: str, **options: Any) -> Scored:
    return score(model, request_of(*documents, **options))


def prompts(model: Listwise, *documents: str, **options: Any) -> list[str]:
    tokenizer = PromptTokenizer(tiny_decoders.qwen_tokenizer(markers=True).to_str())
    sequences = model.prepare(request_of(*documents, **options), Watch()).sequences
    return [tokenizer.decode(sequence.ids) for sequence in sequences]


@pytest.mark.parametrize("name", ["folder", "windowed"])
def test_scores_and_vectors_are_those_of_the_model_written_down_plainly(
    name: str, request: pytest.FixtureRequest
) -> None:
    folder: Path = request.getfixturevalue(name)
    expected, vectors = reference.jina(folder, QUERY, DOCUMENTS, 512, 2048, 131072)
    assert max(expected) - min(expected) > 0.01
    found = scored(load(folder), *DOCUMENTS)
    assert found.scores == pytest.approx(expected, abs=1e-5)
    assert found.embeddings is not None
    assert [len(vector) for vector in found.embeddings] == [512] * len(DOCUMENTS)
    for vector, row in zip(found.embeddings, vectors, strict=True):
        assert vector == pytest.approx(row.tolist(), abs=1e-4)


def test_several_prompts_are_combined_as_the_reference_combines_them(folder: Path, model: Listwise) -> None:
    documents = [f"{index} people live in Berlin {'yes' * (index % 5)}" for index in range(130)]
    expected, _ = reference.jina(folder, QUERY, documents, 512, 2048, 131072)
    found = scored(model, *documents)
    assert found.scores == pytest.approx(expected, abs=1e-5)
    assert found.tokens == sum(len(ids) for ids in map(_ids, prompts(model, *documents)))
    assert len(prompts(model, *documents)) == 2


def test_a_prompt_that_is_full_is_followed_by_another_and_texts_are_cut_as_the_reference_cuts_them(
    folder: Path, model: Listwise
) -> None:
    documents = ["é🙂" * 9, "1" * 20, "1" * 19, "e\u0301" * 10, "\n" * 25, "no"]
    small = limited(model, query=10, document=20, prompt=85)
    query = "e\u0301🙂" * 5
    expected, _ = reference.jina(folder, query, documents, 10, 20, 85)
    found = scored(small, *documents, query=query)
    assert found.scores == pytest.approx(expected, abs=1e-5)
    assert list(found.truncated) == [0]
    assert found.query_truncated
    assert len(prompts(small, *documents, query=query)) == 2


def test_scores_depend_on_order_and_company(model: Listwise) -> None:
    there, back = scored(model, *DOCUMENTS).scores, scored(model, *reversed(DOCUMENTS)).scores
    assert there != pytest.approx(list(reversed(back)), abs=1e-4)
    assert there[0] != there[6]
    assert scored(model, DOCUMENTS[0]).scores[0] != pytest.approx(there[0], abs=1e-6)


def test_a_documents_vector_does_not_depend_on_those_behind_it(model: Listwise) -> None:
    first, second = (scored(model, "a", "b", last, "d").embeddings for last in ("c", "Berlin yes"))
    assert first is not None
    assert second is not None
    assert [first[index] == pytest.approx(second[index], abs=1e-6) for index in range(4)] == [True, True, False, False]


def test_no_text_adds_a_control_token_or_a_marker(model: Listwise) -> None:
    whole = tiny_decoders.qwen_tokenizer(markers=True)
    controls = {whole.token_to_id(control) for control in CONTROLS}

    def found(*texts: str) -> list[int]:
        query, document, instruction = texts
        request = request_of(document, document, query=query, instruction=instruction)
        [sequence] = model.prepare(request, Watch()).sequences
        return [identity for identity in sequence.ids if identity in controls]

    expected = found("a", "b", "c")
    for text in forged(CONTROLS):
        assert found(text, text, text) == expected, text


def test_markers_in_texts_are_removed_and_other_control_tokens_are_text(model: Listwise) -> None:
    [prompt] = prompts(model, "thr<|embed_token|>ee<|score_token|>", query="a<|rerank_<|embed_token|>token|>b")
    assert prompt == reference.jina_prompt("ab", ["three<|score_token|>"])


def test_markers_count_as_text_where_it_is_cut_and_are_removed_then(model: Listwise) -> None:
    marker = len(tiny_decoders.qwen_tokenizer().encode("<|embed_token|>").ids)
    [prompt] = prompts(limited(model, document=marker + 4), "12<|embed_token|>345678")
    assert prompt == reference.jina_prompt(QUERY, ["1234"])


def test_the_instruction_of_the_request_comes_before_that_of_the_settings(folder: Path, model: Listwise) -> None:
    assert model.card.instructions
    assert prompts(model, "a") == [reference.jina_prompt(QUERY, ["a"])]
    assert prompts(model, "a", instruction="Find yes") == [reference.jina_prompt(QUERY, ["a"], "Find yes")]
    configured = load(folder, instruction="Find no")
    assert prompts(configured, "a") == [reference.jina_prompt(QUERY, ["a"], "Find no")]
    assert prompts(configured, "a", instruction="Find yes") == [reference.jina_prompt(QUERY, ["a"], "Find yes")]
    assert prompts(configured, "a", instruction="") == [reference.jina_prompt(QUERY, ["a"])]


def test_an_instruction_has_the_querys_limit(model: Listwise) -> None:
    small = limited(model, query=5)
    assert prompts(small, "a", query="12", instruction="1234567") == [reference.jina_prompt("12", ["a"], "12345")]
    assert scored(small, "a", query="12", instruction="1234567").query_truncated
    assert not scored(small, "a", query="12", instruction="12345").query_truncated


def test_max_tokens_per_doc_lowers_the_documents_limit(model: Listwise) -> None:
    found = scored(model, "123456", "12345", "1", max_tokens_per_doc=5, truncation=False)
    assert list(found.truncated) == [0]
    [prompt] = prompts(model, "123456", "12345", "1", max_tokens_per_doc=5)
    assert prompt == reference.jina_prompt(QUERY, ["12345", "12345", "1"])
    small = limited(model, document=3)
    assert prompts(small, "123456", max_tokens_per_doc=5) == [reference.jina_prompt(QUERY, ["123"])]


def test_documents_are_never_read_in_windows(model: Listwise) -> None:
    assert len(prompts(limited(model, document=5), "1" * 50, max_chunks_per_doc=4)) == 1


@pytest.mark.parametrize(
    ("texts", "param"),
    [
        ({"query": "1" * 11}, "query"),
        ({"instruction": "1" * 11}, "instruction"),
        ({"documents": ["a", "1" * 21]}, "documents[1]"),
    ],
)
def test_where_truncation_is_off_a_text_that_is_too_long_is_an_error_that_names_it(
    model: Listwise, texts: dict[str, Any], param: str
) -> None:
    small = limited(model, query=10, document=20)
    options: dict[str, Any] = {"query": "12", "truncation": False, **texts}
    documents = options.pop("documents", ["a"])
    with pytest.raises(BadRequest) as caught:
        scored(small, *documents, **options)
    assert caught.value.param == param
    assert scored(small, "1" * 20, query="1" * 10, truncation=False).truncated == []


def test_the_limits_are_those_of_the_version_that_the_config_shows(folder: Path, windowed: Path) -> None:
    def limits(folder: Path, **options: Any) -> Limits:
        placed: Any = None
        loading = Loading("m", "m", Checkpoint(folder), placed, lambda *_: None, **options)
        return limits_of(Qwen3Config.from_dict(loading.checkpoint.config), loading)

    assert limits(folder) == Limits(512, 2048, 131072)
    assert limits(windowed) == Limits(1024, 8192, 131072)
    assert limits(folder, max_length=8000, max_query_length=100) == Limits(100, 2048, 8000)
    assert limits(folder, max_length=1000) == Limits(250, 2048, 1000)


def test_a_short_prompt_leaves_a_document_what_the_query_leaves(model: Listwise) -> None:
    small = limited(model, query=10, document=2048, prompt=100)
    assert prompts(small, "1" * 500, query="1" * 9) == [reference.jina_prompt("1" * 9, ["1" * 82])]


def test_the_card_says_how_the_model_runs(model: Listwise) -> None:
    card = model.card
    assert (card.family, card.score, card.listwise, card.embeddings, card.max_length) == (
        "listwise",
        "cosine",
        True,
        True,
        131072,
    )


def test_bfloat16_stays_near_float32(folder: Path, model: Listwise) -> None:
    scorer = load_scorer(ModelSpec("m", str(folder), "cpu", "bfloat16"), lambda *_: None)
    found = score(scorer, request_of(*DOCUMENTS))
    assert found.scores == pytest.approx(scored(model, *DOCUMENTS).scores, abs=0.1)


def test_each_prompt_has_a_row_for_every_document_and_one_for_the_query(model: Listwise) -> None:
    prepared = model.prepare(request_of("a", "b", "c"), Watch())
    [rows] = run_all(model.runner, prepared.sequences, Watch())
    assert rows.shape == (4, 512)


def test_it_is_recognised_by_its_class_or_by_its_projector(folder: Path, tmp_path: Path) -> None:
    assert jina_v3.recognises(Checkpoint(folder))
    renamed = tiny_decoders.write_jina(tmp_path / "renamed")
    config = json.loads((renamed / "config.json").read_text())
    (renamed / "config.json").write_text(json.dumps({**config, "architectures": ["Qwen3Model"]}))
    assert jina_v3.recognises(Checkpoint(renamed))
    assert not jina_v3.recognises(Checkpoint(tiny_decoders.write_qwen3(tmp_path / "plain")))


@pytest.mark.parametrize("name", ["projector.0.weight", "projector.2.weight", "projector.0.bias"])
def test_a_projector_of_other_tensors_is_an_error(name: str, tmp_path: Path) -> None:
    folder = tiny_decoders.write_jina(tmp_path)
    tensors = load_file(folder / "model.safetensors")
    save_file({**tensors, name: torch.zeros(7, 9)}, folder / "model.safetensors")
    with pytest.raises(LoadError, match=rf"'{name}': \(7, 9\)"):
        load(folder)
    without = {known: tensor for known, tensor in tensors.items() if known != "projector.2.weight"}
    save_file(without, folder / "model.safetensors")
    with pytest.raises(LoadError, match="projector"):
        load(folder)


def test_a_missing_tensor_is_an_error_and_never_a_random_one(tmp_path: Path) -> None:
    folder = tiny_decoders.write_jina(tmp_path)
    tensors = load_file(folder / "model.safetensors")
    del tensors["model.norm.weight"]
    save_file(tensors, folder / "model.safetensors")
    with pytest.raises(LoadError, match=r"lacks norm\.weight"):
        load(folder)


def test_a_tokenizer_without_the_markers_is_refused(tmp_path: Path) -> None:
    folder = tiny_decoders.write_jina(tmp_path)
    tiny_decoders.qwen_tokenizer().save(str(folder / "tokenizer.json"))
    with pytest.raises(UnsupportedModel, match="embed_token"):
        load(folder)


def _ids(prompt: str) -> list[int]:
    return list(tiny_decoders.qwen_tokenizer(markers=True).encode(prompt).ids)
