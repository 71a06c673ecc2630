from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import GteForSequenceClassification

from rerankd.engine.encoder import PackedEncoder
from rerankd.engine.families.gte import gte_config, rope_parameters
from rerankd.engine.rotary_encoder import RotaryLayers
from rerankd.errors import UnsupportedModel
from tests.engine import reference, tiny, tiny_encoders
from tests.engine.asking import ask, load

QUERY = "how many people live in berlin"
DOCUMENTS = ["3.5 million people live in berlin", "", "paris is the capital of france", "x", "berlin " * 70]
PUBLISHED: dict[str, Any] = {
    "model_type": "new",
    "hidden_size": 32,
    "num_attention_heads": 4,
    "vocab_size": 50,
    "rope_theta": 20000,
    "rope_scaling": {"type": "ntk", "factor": 8.0},
}


def logits(folder: Path) -> list[float]:
    return list(ask(load(folder, score="logit"), QUERY, DOCUMENTS).scores)


def test_the_hubs_config_and_the_native_one_are_the_same_model(tmp_path: Path) -> None:
    native, published = tiny_encoders.write_gte(tmp_path / "gte"), tiny_encoders.write_new(tmp_path / "new")
    expected = reference.logits(native, QUERY, DOCUMENTS, "longest_first", 64)
    assert logits(native) == pytest.approx(expected, abs=1e-5)
    assert logits(published) == pytest.approx(expected, abs=1e-5)


def test_the_scaling_is_not_forgotten(tmp_path: Path) -> None:
    plain = tiny_encoders.write_new(tmp_path / "plain", rope_scaling=None)
    assert logits(plain) != pytest.approx(logits(tiny_encoders.write_new(tmp_path / "new")), abs=1e-4)


def test_ntk_frequencies_are_divided_twice() -> None:
    """(theta f)^(-2i/d) / f^(2/d), as the published code has them at every length."""
    model = GteForSequenceClassification(gte_config({**PUBLISHED, "num_hidden_layers": 1, "intermediate_size": 8}))
    width, factor = 8, 8.0
    exponents = torch.arange(0, width, 2, dtype=torch.float64) / width
    expected = (20000 * factor) ** -exponents / factor ** (2 / width)
    assert model.gte.rotary_emb.inv_freq.double() == pytest.approx(expected.numpy(), rel=1e-6)


def test_without_scaling_there_is_none() -> None:
    assert rope_parameters(10000.0, None, 64) == {"rope_type": "default", "rope_theta": 10000.0}


@pytest.mark.parametrize(
    "change",
    [
        {"rope_scaling": {"type": "dynamic", "factor": 2.0}},
        {"rope_scaling": {"type": "ntk", "factor": 2.0, "mixed_b": 0.5}},
        {"position_embedding_type": "absolute"},
        {"layer_norm_type": "rms_norm"},
        {"logn_attention_scale": True},
    ],
)
def test_what_is_not_known_is_refused_and_not_guessed(change: dict[str, Any]) -> None:
    with pytest.raises(UnsupportedModel, match=next(iter(change))):
        gte_config({**PUBLISHED, **change})


def test_the_rebuilt_layers_say_what_transformers_say(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tiny_encoders.write_gte(tmp_path / "gte")
    scorer = load(folder)
    assert isinstance(scorer.runner, PackedEncoder)
    assert isinstance(scorer.runner._layers, RotaryLayers)
    fast = logits(folder)
    monkeypatch.setattr("rerankd.engine.families.gte.supports", lambda *_: False)
    assert logits(folder) == pytest.approx(fast, abs=1e-5)


def test_another_activation_is_left_to_transformers(tmp_path: Path) -> None:
    folder = tiny_encoders.write_gte(tmp_path / "gte")
    tiny.change_config(folder, hidden_act="silu")
    assert logits(folder) == pytest.approx(reference.logits(folder, QUERY, DOCUMENTS, "longest_first", 64), abs=1e-5)
