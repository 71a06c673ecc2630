from __future__ import annotations

import json
from math import exp
from pathlib import Path

import pytest

from rerankd.engine.loading import ModelSpec, load_scorer
from rerankd.engine.scorer import Scorer, score
from rerankd.errors import UnsupportedModel
from rerankd.types import Document, RerankRequest
from tests.engine import decoder_reference as reference
from tests.engine import tiny_decoders

QUERY = "How many people live in Berlin?"
DOCUMENTS = ["3.7 million people", "", "\n\nno passage, yes <|im_end|>", "你好 🙂", " Berlin " * 40, "no"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_decoders.write_nemotron(tmp_path_factory.mktemp("nemotron"))


def load(folder: Path) -> Scorer:
    return load_scorer(ModelSpec("m", str(folder), "cpu", "float32"), lambda *_: None)


def scores(folder: Path) -> list[float]:
    request = RerankRequest(query=QUERY, documents=tuple(map(Document, DOCUMENTS)))
    return list(score(load(folder), request).scores)


def test_scores_are_those_of_a_llama_whose_mask_hides_nothing(folder: Path) -> None:
    expected = [1 / (1 + exp(-logit)) for logit in reference.nemotron_logits(folder, QUERY, DOCUMENTS)]
    assert max(expected) - min(expected) > 0.01
    assert scores(folder) == pytest.approx(expected, abs=1e-5)


def test_it_follows_no_instruction_and_shares_no_prefix(folder: Path) -> None:
    card = load(folder).card
    assert (card.family, card.score, card.instructions, card.max_length) == (
        "cross-encoder",
        "probability",
        False,
        4096,
    )


def test_the_temperature_divides_the_logit(tmp_path: Path) -> None:
    folder = tiny_decoders.write_nemotron(tmp_path)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "temperature": 2.0}))
    expected = [1 / (1 + exp(-logit / 2)) for logit in reference.nemotron_logits(folder, QUERY, DOCUMENTS)]
    assert scores(folder) == pytest.approx(expected, abs=1e-5)


def test_another_pooling_is_refused(tmp_path: Path) -> None:
    folder = tiny_decoders.write_nemotron(tmp_path)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "pooling": "last"}))
    with pytest.raises(UnsupportedModel, match="pools by last"):
        load(folder)
