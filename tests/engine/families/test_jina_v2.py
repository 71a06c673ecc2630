from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForSequenceClassification

from rerankd.engine.checkpoint import Checkpoint
from rerankd.engine.encoder import PackedEncoder
from rerankd.engine.families import jina_v2
from rerankd.engine.families.jina_v2 import query_limit
from rerankd.engine.post_norm import PostNormLayers
from rerankd.engine.scorer import Scorer
from rerankd.errors import BadRequest, LoadError, UnsafeCheckpoint
from tests.engine import reference, tiny, tiny_encoders
from tests.engine.asking import ask, fed, load

QUERY = "how many people live in berlin"
SHORT = ["3.5 million people live in berlin", "", "paris is the capital of france", "x"]
LONG = "berlin is the capital of how many people " * 20
START, END = 0, 2


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_encoders.write_jina_v2(tmp_path_factory.mktemp("jina") / "model")


@pytest.fixture(scope="module")
def scorer(folder: Path) -> Scorer:
    return load(folder)


def ids_of(folder: Path, text: str) -> list[int]:
    ids: list[int] = reference.tokenizer_of(folder).encode(text, add_special_tokens=False).ids
    return ids


def test_the_fused_weights_say_what_the_standard_class_says(folder: Path, scorer: Scorer) -> None:
    logits = reference.logits(folder / "standard", QUERY, SHORT, "longest_first", 64)
    assert ask(scorer, QUERY, SHORT).scores == pytest.approx(torch.sigmoid(torch.tensor(logits)).tolist(), abs=1e-5)
    assert scorer.card.score == "probability"


def test_it_is_run_by_the_fast_layers(scorer: Scorer) -> None:
    assert isinstance(scorer.runner, PackedEncoder)
    assert isinstance(scorer.runner._layers, PostNormLayers)


def test_a_long_document_gets_the_best_of_its_windows(folder: Path, scorer: Scorer) -> None:
    """64 positions, so a window has 64 - 4 - query tokens, and a quarter of it is less than 80."""
    query, document = ids_of(folder, QUERY), ids_of(folder, LONG)
    room = 64 - 4 - len(query)
    overlap = room // 4
    starts = [*range(0, len(document) - room, room - overlap), len(document) - room]
    windows = [[START, *query, END, END, *document[start : start + room], END] for start in starts]
    assert len(windows) > 2
    assert [sequence.ids for sequence in fed(scorer, QUERY, [LONG])] == windows
    standard = AutoModelForSequenceClassification.from_pretrained(folder / "standard", dtype=torch.float32).eval()
    with torch.inference_mode():
        logits = standard(torch.tensor(windows)).logits[:, 0]
    scored = ask(scorer, QUERY, ["x", LONG])
    assert scored.scores[1] == pytest.approx(torch.sigmoid(logits).max().item(), abs=1e-5)
    assert logits.max() - logits.min() > 0.01
    assert list(scored.truncated) == []
    assert scored.tokens == sum(map(len, windows)) + len(query) + 4 + len(ids_of(folder, "x"))


def test_nothing_is_cut_of_a_long_document_unless_it_is_asked_for(scorer: Scorer) -> None:
    assert ask(scorer, QUERY, [LONG], truncation=False).scores == ask(scorer, QUERY, [LONG]).scores
    assert list(ask(scorer, QUERY, [LONG], max_chunks_per_doc=2).truncated) == [0]
    with pytest.raises(BadRequest, match=r"documents\[0\]"):
        ask(scorer, QUERY, [LONG], max_chunks_per_doc=2, truncation=False)


def test_one_chunk_is_the_first_window(scorer: Scorer) -> None:
    (first,) = fed(scorer, QUERY, [LONG], max_chunks_per_doc=1)
    assert first.ids == fed(scorer, QUERY, [LONG])[0].ids


def test_a_long_query_is_cut_so_that_half_of_a_sequence_is_left(scorer: Scorer) -> None:
    scored = ask(scorer, "berlin " * 100, [LONG])
    assert scored.query_truncated
    (sequence, *_) = fed(scorer, "berlin " * 100, [LONG])
    assert sequence.ids.index(END) == 1 + 64 // 2 - 2
    with pytest.raises(BadRequest, match="query"):
        ask(scorer, "berlin " * 100, ["x"], truncation=False)


@pytest.mark.parametrize(
    ("max_length", "wanted", "limit"),
    [(1024, None, 510), (1024, 100, 100), (512, None, 254), (1024, 900, 510), (4, None, 1)],
)
def test_the_querys_limit_follows_the_length_and_the_user(max_length: int, wanted: int | None, limit: int) -> None:
    assert query_limit(max_length, wanted) == limit


def test_only_the_fused_layout_is_recognised(folder: Path) -> None:
    assert jina_v2.recognises(Checkpoint(folder))
    assert not jina_v2.recognises(Checkpoint(folder / "standard"))


def test_a_tensor_that_is_missing_or_left_over_is_an_error(tmp_path: Path) -> None:
    folder = tiny_encoders.write_jina_v2(tmp_path / "model")
    tensors = load_file(folder / "model.safetensors")
    save_file({**tensors, "roberta.pooler.dense.weight": torch.zeros(32, 32)}, folder / "model.safetensors")
    with pytest.raises(LoadError, match=r"more than is known here: roberta\.pooler\.dense\.weight"):
        load(folder)
    del tensors["roberta.encoder.layers.1.mixer.Wqkv.bias"]
    save_file(tensors, folder / "model.safetensors")
    with pytest.raises(LoadError, match=r"lacks roberta\.encoder\.layer\.1\.attention\.self\.key\.bias"):
        load(folder)


def test_without_safetensors_it_is_refused_for_its_pickle(tmp_path: Path) -> None:
    folder = tiny_encoders.write_jina_v2(tmp_path / "model")
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(UnsafeCheckpoint):
        load(folder)


def test_code_that_lies_in_the_folder_is_never_run(tmp_path: Path) -> None:
    folder = tiny_encoders.write_jina_v2(tmp_path / "model")
    (folder / "modeling.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w').close()\n")
    tiny.change_config(folder, auto_map={"AutoConfig": "modeling.Evil", "AutoModel": "modeling.Evil"})
    assert ask(load(folder), QUERY, SHORT).scores
    assert not (tmp_path / "ran").exists()
    assert "model_type" not in json.loads((folder / "config.json").read_text())
