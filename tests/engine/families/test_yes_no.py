from __future__ import annotations

import json
from collections.abc import Callable
from math import exp
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file, save_file

from rerankd.engine.checkpoint import Checkpoint
from rerankd.engine.families import yes_no
from rerankd.engine.loading import ModelSpec, load_scorer
from rerankd.engine.pairwise import Pairwise
from rerankd.engine.scorer import Scored, Watch, score
from rerankd.errors import LoadError, UnsupportedModel
from rerankd.types import Document, RerankRequest
from tests.engine import decoder_reference as reference
from tests.engine import tiny_decoders

QUERY = "How many people live in Berlin?"
DOCUMENTS = ["3.7 million people", "", "\n\nno passage, yes <|im_end|>", "你好 🙂", " Berlin " * 40, "no"]
Ids = Callable[..., list[int]]
WRITERS: dict[str, tuple[Callable[..., Path], Ids, tuple[str, ...]]] = {
    "qwen3": (tiny_decoders.write_qwen3, reference.qwen3_ids, ("yes", "no")),
    "mxbai": (tiny_decoders.write_mxbai, reference.mxbai_ids, ("1", "0")),
    "gemma": (tiny_decoders.write_gemma, reference.gemma_ids, ("Yes",)),
}


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    made = {name: write(tmp_path_factory.mktemp(name)) for name, (write, _, _) in WRITERS.items()}
    return {**made, "row": tiny_decoders.write_qwen3_row(tmp_path_factory.mktemp("row"), made["qwen3"])}


def load(folder: Path, dtype: str = "float32", **options: Any) -> Pairwise:
    scorer = load_scorer(ModelSpec("m", str(folder), "cpu", dtype, **options), lambda *_: None)
    assert isinstance(scorer, Pairwise)
    return scorer


def scored(scorer: Pairwise, *documents: str, query: str = QUERY, **options: Any) -> Scored:
    return score(scorer, RerankRequest(query=query, documents=tuple(map(Document, documents)), **options))


def sigmoid(logit: float) -> float:
    return 1 / (1 + exp(-logit))


@pytest.mark.parametrize("name", WRITERS)
@pytest.mark.parametrize("tied", [True, False])
def test_scores_are_those_of_the_whole_vocabularys_logits(name: str, tied: bool, tmp_path: Path) -> None:
    write, ids_of, answers = WRITERS[name]
    folder = write(tmp_path, seed=1, tie_word_embeddings=tied)
    assert ("lm_head.weight" in load_file(folder / "model.safetensors")) is not tied
    word = reference.words(folder)
    prompts = [ids_of(word, QUERY, document) for document in DOCUMENTS]
    expected = reference.logits(folder, prompts, *answers)
    assert max(expected) - min(expected) > 0.01
    found = scored(load(folder, score="logit"), *DOCUMENTS)
    assert found.scores == pytest.approx(expected, abs=1e-4)
    assert found.tokens == sum(map(len, prompts))
    assert scored(load(folder), *DOCUMENTS).scores == pytest.approx(list(map(sigmoid, expected)), abs=1e-5)


def test_a_conversion_to_one_row_scores_as_the_model_that_it_was_made_of(folders: dict[str, Path]) -> None:
    expected = scored(load(folders["qwen3"]), *DOCUMENTS).scores
    assert scored(load(folders["row"]), *DOCUMENTS).scores == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("name", WRITERS)
def test_scores_are_the_same_whether_the_prefix_is_shared_or_not(name: str, folders: dict[str, Path]) -> None:
    expected = scored(load(folders[name], prefix_reuse=False), *DOCUMENTS)
    found = scored(load(folders[name]), *DOCUMENTS)
    assert found.scores == pytest.approx(expected.scores, abs=1e-5)
    assert found.tokens == expected.tokens


def test_a_document_scores_alike_to_the_last_bit_in_any_company(folders: dict[str, Path]) -> None:
    model = load(folders["qwen3"], "bfloat16")
    alone = scored(model, "Berlin is large").scores[0]
    company = scored(model, *DOCUMENTS, "Berlin is large", *(f"{index} people" for index in range(70))).scores
    assert company[len(DOCUMENTS)] == alone


def test_equal_documents_are_computed_once_and_score_alike(folders: dict[str, Path]) -> None:
    model = load(folders["qwen3"])
    request = RerankRequest(query=QUERY, documents=(Document("a"), Document("b"), Document("a")))
    assert len(model.prepare(request, Watch()).sequences) == 2
    found = score(model, request)
    assert found.scores[0] == found.scores[2] != found.scores[1]


@pytest.mark.parametrize("name", ["qwen3", "mxbai", "row"])
def test_an_instruction_changes_the_scores_and_is_on_the_card(name: str, folders: dict[str, Path]) -> None:
    model = load(folders[name])
    assert model.card.instructions
    plain, followed = scored(model, *DOCUMENTS), scored(model, *DOCUMENTS, instruction="Find yes")
    assert plain.scores != pytest.approx(followed.scores, abs=1e-6)
    configured = load(folders[name], instruction="Find yes")
    assert scored(configured, *DOCUMENTS).scores == followed.scores


def test_gemmas_prompt_has_no_place_for_an_instruction(folders: dict[str, Path]) -> None:
    model = load(folders["gemma"])
    assert not model.card.instructions
    assert scored(model, "a", instruction="Find yes").scores == scored(model, "a").scores


def test_the_best_window_counts(folders: dict[str, Path]) -> None:
    model = load(folders["qwen3"], max_length=500)
    long = "".join(str(index * index % 7) for index in range(400))
    whole = scored(model, long, max_chunks_per_doc=9, overlap_tokens=10)
    assert whole.scores[0] >= scored(model, long).scores[0]
    assert (list(whole.truncated), list(scored(model, long).truncated)) == ([], [0])


def test_the_card_says_how_the_model_runs(folders: dict[str, Path]) -> None:
    card = load(folders["qwen3"], max_length=700).card
    assert (card.family, card.score, card.max_length, card.listwise, card.embeddings) == (
        "yes-no",
        "probability",
        700,
        False,
        False,
    )
    assert load(folders["qwen3"], max_length=100_000).card.max_length == 4096


def test_only_the_answers_rows_of_the_output_embedding_are_kept(tmp_path: Path) -> None:
    folder = tiny_decoders.write_qwen3(tmp_path, tie_word_embeddings=False)
    tensors = load_file(folder / "model.safetensors")
    word = reference.words(folder)
    kept = [*word.ours("yes"), *word.ours("no")]
    others = [row for row in range(len(tensors["lm_head.weight"])) if row not in kept]
    expected = scored(load(folder), *DOCUMENTS).scores
    tensors["lm_head.weight"][others] = float("nan")
    save_file(tensors, folder / "model.safetensors")
    assert scored(load(folder), *DOCUMENTS).scores == expected


def test_a_missing_head_is_an_error(tmp_path: Path, folders: dict[str, Path]) -> None:
    untied = tiny_decoders.write_qwen3(tmp_path / "untied", tie_word_embeddings=False)
    tensors = load_file(untied / "model.safetensors")
    del tensors["lm_head.weight"]
    save_file(tensors, untied / "model.safetensors")
    with pytest.raises(LoadError, match=r"lacks lm_head\.weight"):
        load(untied)
    row = tiny_decoders.write_qwen3_row(tmp_path / "row", folders["qwen3"])
    tensors = load_file(row / "model.safetensors")
    del tensors["score.weight"]
    save_file(tensors, row / "model.safetensors")
    with pytest.raises(LoadError, match=r"lacks score\.weight"):
        load(row)


def test_a_missing_tensor_is_an_error_and_never_a_random_one(tmp_path: Path) -> None:
    folder = tiny_decoders.write_mxbai(tmp_path)
    tensors = load_file(folder / "model.safetensors")
    del tensors["model.layers.1.mlp.up_proj.weight"]
    save_file(tensors, folder / "model.safetensors")
    with pytest.raises(LoadError, match=r"lacks layers\.1\.mlp\.up_proj\.weight"):
        load(folder)


def test_a_model_whose_tokenizer_lacks_the_answers_or_the_templates_tokens_is_refused(tmp_path: Path) -> None:
    folder = tiny_decoders.write_qwen3(tmp_path)
    described = json.loads((folder / "tokenizer.json").read_text())
    (folder / "tokenizer.json").write_text(json.dumps(described).replace("<|im_start|>", "<|im_begin|>"))
    with pytest.raises(UnsupportedModel, match="im_start"):
        load(folder)
    described["model"]["merges"].remove(["n", "o"])
    (folder / "tokenizer.json").write_text(json.dumps(described))
    with pytest.raises(UnsupportedModel, match="no token no"):
        load(folder)


def test_a_classifier_of_several_labels_is_no_reranker(tmp_path: Path, folders: dict[str, Path]) -> None:
    folder = tiny_decoders.write_qwen3_row(tmp_path, folders["qwen3"])
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "id2label": {"0": "a", "1": "b"}}))
    with pytest.raises(UnsupportedModel, match="2 labels"):
        load(folder)


def test_it_is_recognised_by_the_configs_class(folders: dict[str, Path], xlmr: Path) -> None:
    assert all(yes_no.recognises(Checkpoint(folder)) for folder in folders.values())
    assert not yes_no.recognises(Checkpoint(xlmr))
