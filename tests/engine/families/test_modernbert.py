from __future__ import annotations

from pathlib import Path

import pytest

from rerankd.engine.encoder import PackedEncoder
from rerankd.engine.rotary_encoder import RotaryLayers
from tests.engine import reference, tiny, tiny_encoders
from tests.engine.asking import ask, load

QUERY = "how many people live in berlin"
DOCUMENTS = [
    "3.5 million people live in berlin",
    "",
    "the capital of france " * 12,
    "x",
    "berlin " * 70,
    "a b c " * 100,
]
"""Up to ten times as long as the 17 tokens that a local layer sees."""


def logits(folder: Path) -> list[float]:
    return list(ask(load(folder, score="logit"), QUERY, DOCUMENTS).scores)


@pytest.mark.parametrize("pooling", ["cls", "mean"])
def test_long_texts_get_the_scores_of_transformers_own_class(pooling: str, tmp_path: Path) -> None:
    folder = tiny_encoders.write_modernbert(tmp_path / "model", pooling=pooling)
    expected = reference.logits(folder, QUERY, DOCUMENTS, "longest_first", 400)
    assert logits(folder) == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("local", [14, 18])
def test_a_window_of_another_width_would_be_noticed(local: int, tmp_path: Path) -> None:
    folder = tiny_encoders.write_modernbert(tmp_path / "model")
    expected = logits(folder)
    tiny.change_config(folder, local_attention=local)
    assert logits(folder) != pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize("pooling", ["cls", "mean"])
def test_the_rebuilt_layers_say_what_transformers_say(
    pooling: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tiny_encoders.write_modernbert(tmp_path / "model", pooling=pooling)
    scorer = load(folder)
    assert isinstance(scorer.runner, PackedEncoder)
    assert isinstance(scorer.runner._layers, RotaryLayers)
    fast = logits(folder)
    monkeypatch.setattr("rerankd.engine.families.modernbert.supports", lambda *_: False)
    assert logits(folder) == pytest.approx(fast, abs=1e-5)
