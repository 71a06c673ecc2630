from __future__ import annotations

import json
import pickle
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from rerankd.engine.encoder import PackedEncoder
from rerankd.engine.families.cross_encoder import cut_of, score_kind
from rerankd.engine.post_norm import PostNormLayers
from rerankd.engine.scorer import Watch, score
from rerankd.engine.truncation import longest_first, query_capped
from rerankd.errors import DeadlineExceeded, LoadError, UnsafeCheckpoint, UnsupportedModel
from tests.engine import reference, tiny
from tests.engine.asking import ask, fed, load, request

QUERY = "how many people live in berlin"
DOCUMENTS = [
    "3.5 million people live in berlin",
    "",
    "paris is the capital of france",
    "x",
    "paris is the capital of france",
    "berlin " * 70,
    "a man, a plan, a canal",
]


def test_packed_xlmr_scores_equal_those_of_the_padded_class(xlmr: Path) -> None:
    scored = ask(load(xlmr), QUERY, DOCUMENTS)
    expected = torch.sigmoid(torch.tensor(reference.logits(xlmr, QUERY, DOCUMENTS, "only_second", 64)))
    assert scored.scores == pytest.approx(expected.tolist(), abs=1e-5)
    assert max(scored.scores) - min(scored.scores) > 0.05, "a model that says the same of everything proves nothing"


def test_packed_bert_scores_are_raw_logits_and_equal_those_of_the_padded_class(bert: Path) -> None:
    scored = ask(load(bert), QUERY, DOCUMENTS)
    expected = reference.logits(bert, QUERY, DOCUMENTS, "longest_first", 64)
    assert scored.scores == pytest.approx(expected, abs=1e-5)
    assert max(scored.scores) - min(scored.scores) > 0.05


def test_equal_documents_get_equal_scores_and_are_computed_once(xlmr: Path) -> None:
    scorer = load(xlmr, "bfloat16")
    scores = ask(scorer, QUERY, ["paris", *DOCUMENTS, "paris"]).scores
    assert scores[0] == scores[-1]
    assert scores[3] == scores[5]
    assert len(fed(scorer, QUERY, ["paris", *DOCUMENTS, "paris"])) == len({*DOCUMENTS, "paris"})


@pytest.mark.parametrize("family", ["xlmr", "bert"])
def test_it_is_run_by_the_fast_layers(family: str, request: pytest.FixtureRequest) -> None:
    runner = load(request.getfixturevalue(family)).runner
    assert isinstance(runner, PackedEncoder)
    assert isinstance(runner._layers, PostNormLayers)


def test_bfloat16_stays_near_float32(xlmr: Path) -> None:
    exact = ask(load(xlmr), QUERY, DOCUMENTS).scores
    assert ask(load(xlmr, "bfloat16"), QUERY, DOCUMENTS).scores == pytest.approx(exact, abs=0.1)


def test_a_cut_document_is_reported_and_tokens_are_counted_as_fed(xlmr: Path) -> None:
    model = load(xlmr)
    scored = ask(model, QUERY, DOCUMENTS)
    assert list(scored.truncated) == [5]
    assert not scored.query_truncated
    whole = reference.tokenizer_of(xlmr)
    whole.enable_truncation(64, strategy="only_second")
    assert scored.tokens == sum(len(whole.encode(QUERY, document).ids) for document in DOCUMENTS)


def test_max_length_can_be_lowered_but_not_raised(xlmr: Path) -> None:
    assert load(xlmr, max_length=40).card.max_length == 40
    assert load(xlmr, max_length=4000).card.max_length == 64


def test_a_query_longer_than_the_room_is_cut_and_leaves_room_for_documents(xlmr: Path) -> None:
    scored = ask(load(xlmr), "berlin " * 200, ["paris " * 200])
    assert scored.tokens == 64
    assert scored.query_truncated
    assert list(scored.truncated) == [0]


def test_the_users_own_limit_of_a_query_holds(xlmr: Path) -> None:
    (capped,), (whole,) = (fed(load(xlmr, max_query_length=limit), "how many people", ["x"]) for limit in (2, None))
    assert len(capped) == len(whole) - 1


def test_code_that_lies_in_a_checkpoint_is_never_run(tmp_path: Path) -> None:
    folder = tiny.write_xlmr(tmp_path / "model")
    marker = tmp_path / "ran"
    (folder / "modeling.py").write_text(f"open({str(marker)!r}, 'w').close()\n")
    tiny.change_config(folder, auto_map={"AutoModel": "modeling.Evil", "AutoConfig": "modeling.Evil"})
    assert ask(load(folder), "a", ["b"]).scores
    assert not marker.exists()


def test_a_checkpoint_of_pickles_alone_is_refused_with_the_reason(tmp_path: Path) -> None:
    folder = tiny.write_xlmr(tmp_path / "model")
    marker = tmp_path / "ran"
    (folder / "model.safetensors").unlink()
    (folder / "pytorch_model.bin").write_bytes(pickle.dumps(_Evil(str(marker))))
    with pytest.raises(UnsafeCheckpoint, match=r"pytorch_model\.bin.*pickles.*safetensors"):
        load(folder)
    assert not marker.exists()


class _Evil:
    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[str, str]]:
        return open, (self.path, "w")


def test_a_missing_tensor_is_an_error_and_never_a_random_one(tmp_path: Path) -> None:
    folder = tiny.write_xlmr(tmp_path / "model")
    tensors = load_file(folder / "model.safetensors")
    del tensors["roberta.encoder.layer.1.output.dense.weight"]
    save_file(tensors, folder / "model.safetensors")
    with pytest.raises(LoadError, match=r"lacks roberta\.encoder\.layer\.1\.output\.dense\.weight"):
        load(folder)


def test_a_damaged_file_is_an_error(tmp_path: Path) -> None:
    folder = tiny.write_xlmr(tmp_path / "model")
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(LoadError, match="damaged"):
        load(folder)


def test_a_checkpoint_of_several_labels_is_no_reranker(tmp_path: Path) -> None:
    with pytest.raises(UnsupportedModel, match="3 labels"):
        load(tiny.write_xlmr(tmp_path, num_labels=3))


def test_position_ids_that_lie_in_old_checkpoints_do_no_harm(tmp_path: Path) -> None:
    folder = tiny.write_bert(tmp_path / "model")
    expected = ask(load(folder), QUERY, DOCUMENTS).scores
    tensors = load_file(folder / "model.safetensors")
    tensors["bert.embeddings.position_ids"] = torch.arange(64).unsqueeze(0)
    save_file(tensors, folder / "model.safetensors")
    assert ask(load(folder), QUERY, DOCUMENTS).scores == expected


def test_work_stops_between_batches_when_the_deadline_has_passed(xlmr: Path) -> None:
    with pytest.raises(DeadlineExceeded):
        score(load(xlmr), request(QUERY, DOCUMENTS), Watch(deadline=0.0))


@pytest.mark.parametrize(
    ("config", "kind"),
    [
        ({}, "probability"),
        ({"sentence_transformers": {"activation_fn": "torch.nn.modules.linear.Identity"}}, "logit"),
        ({"sbert_ce_default_activation_function": "torch.nn.modules.linear.Identity"}, "logit"),
        ({"sbert_ce_default_activation_function": "torch.nn.modules.activation.Sigmoid"}, "probability"),
        ({"sentence_transformers": {"version": "5"}}, "probability"),
    ],
)
def test_the_scale_is_the_one_that_the_config_names(config: dict[str, object], kind: str) -> None:
    assert score_kind(config) == kind


def test_an_activation_from_elsewhere_is_refused_and_not_imported() -> None:
    with pytest.raises(UnsupportedModel, match=r"os\.system"):
        score_kind({"sentence_transformers": {"activation_fn": "os.system"}})


def test_bge_is_cut_as_flagembedding_cuts_and_others_as_sentence_transformers() -> None:
    assert cut_of({"model_type": "xlm-roberta"}) is query_capped
    assert cut_of({"model_type": "xlm-roberta", "sentence_transformers": {}}) is longest_first
    assert cut_of({"model_type": "bert"}) is longest_first


def test_the_card_says_how_the_model_runs(xlmr: Path) -> None:
    card = load(xlmr).card
    assert (card.family, card.device, card.dtype, card.max_length) == ("cross-encoder", "cpu", "float32", 64)
    assert json.loads((xlmr / "config.json").read_text())["max_position_embeddings"] == 66
