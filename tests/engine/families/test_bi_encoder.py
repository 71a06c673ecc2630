from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from rerankd.engine.checkpoint import Checkpoint
from rerankd.engine.devices import place
from rerankd.engine.families import bi_encoder
from rerankd.engine.families.bi_encoder import BiEncoder
from rerankd.engine.scorer import Watch
from rerankd.errors import UnsupportedModel
from tests.engine import reference, tiny

QUERY = "how many people live in berlin"
DOCUMENTS = ["3.5 million people live in berlin", "", "the capital of france is paris", "berlin " * 70, "x"]


def load(folder: Path) -> BiEncoder:
    return bi_encoder.load("tiny", str(folder), Checkpoint(folder), place("cpu", "float32"), None, lambda *_: None)


def test_scores_and_vectors_equal_those_of_a_padded_mean_pooled_model(bi_encoder_folder: Path) -> None:
    scored = load(bi_encoder_folder).score(QUERY, DOCUMENTS, Watch())
    expected = reference.mean_vectors(bi_encoder_folder, [QUERY, *DOCUMENTS], 64)
    assert scored.scores == pytest.approx((expected[1:] @ expected[0]).tolist(), abs=1e-5)
    assert scored.embeddings is not None
    assert torch.allclose(torch.tensor(scored.embeddings), expected[1:], atol=1e-5)
    assert max(scored.scores) - min(scored.scores) > 0.05
    assert list(scored.truncated) == [3]


def test_first_token_pooling_is_taken_where_the_files_ask_for_it(tmp_path: Path) -> None:
    mean = load(tiny.write_bi_encoder(tmp_path / "mean")).score(QUERY, DOCUMENTS, Watch())
    first = load(tiny.write_bi_encoder(tmp_path / "first", pooling="cls_token")).score(QUERY, DOCUMENTS, Watch())
    assert first.scores != pytest.approx(mean.scores, abs=1e-3)


def test_a_pooling_that_is_not_known_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(UnsupportedModel, match="max_tokens"):
        load(tiny.write_bi_encoder(tmp_path, pooling="max_tokens"))


def test_a_module_that_is_not_known_is_refused_by_name(tmp_path: Path) -> None:
    folder = tiny.write_bi_encoder(tmp_path)
    (folder / "modules.json").write_text(json.dumps([{"type": "sentence_transformers.models.Dense"}]))
    with pytest.raises(UnsupportedModel, match="Dense"):
        load(folder)


def test_the_query_counts_once(bi_encoder_folder: Path) -> None:
    whole = reference.tokenizer_of(bi_encoder_folder)
    whole.enable_truncation(64)
    expected = sum(len(whole.encode(text).ids) for text in [QUERY, *DOCUMENTS])
    assert load(bi_encoder_folder).score(QUERY, DOCUMENTS, Watch()).tokens == expected
