from __future__ import annotations

from pathlib import Path

import pytest

from rerankd.engine.checkpoint import Checkpoint
from rerankd.errors import LoadError, UnsupportedModel


def folder_with(tmp_path: Path, **files: str) -> Path:
    for name, text in {"config": "{}", **files}.items():
        (tmp_path / f"{name}.json").write_text(text)
    return tmp_path


def test_a_folder_without_a_config_is_no_model(tmp_path: Path) -> None:
    with pytest.raises(LoadError, match=r"no config\.json"):
        Checkpoint(tmp_path)
    with pytest.raises(LoadError, match="not a folder"):
        Checkpoint(tmp_path / "nowhere")


@pytest.mark.parametrize("text", ["{", "[]", "3", "[" * 100_000])
def test_a_config_that_is_no_object_is_an_error_with_its_path(tmp_path: Path, text: str) -> None:
    with pytest.raises(LoadError, match=r"config\.json"):
        _ = Checkpoint(folder_with(tmp_path, config=text)).config


def test_a_file_that_is_not_there_is_an_empty_object(tmp_path: Path) -> None:
    assert Checkpoint(folder_with(tmp_path)).json("tokenizer_config.json") == {}


@pytest.mark.parametrize(
    ("config", "name"),
    [('{"architectures": ["A", "B"]}', "A"), ('{"architectures": []}', ""), ("{}", ""), ('{"architectures": 3}', "")],
)
def test_the_architecture_is_the_first_that_is_named(tmp_path: Path, config: str, name: str) -> None:
    assert Checkpoint(folder_with(tmp_path, config=config)).architecture == name


def test_the_length_is_the_least_of_all_limits(tmp_path: Path) -> None:
    checkpoint = Checkpoint(
        folder_with(tmp_path, tokenizer_config='{"model_max_length": 1000000000000000019884624838656}')
    )
    assert checkpoint.max_length(512, None) == 512
    assert checkpoint.max_length(512, 100) == 100
    assert checkpoint.max_length(512, 9999) == 512
    limited = Checkpoint(folder_with(tmp_path, sentence_bert_config='{"max_seq_length": 256}'))
    assert limited.max_length(512, None) == 256


def test_weights_and_tokenizer_are_asked_for_by_name(tmp_path: Path) -> None:
    checkpoint = Checkpoint(folder_with(tmp_path))
    with pytest.raises(LoadError, match=r"no model\.safetensors"):
        _ = checkpoint.weight_files
    with pytest.raises(UnsupportedModel, match=r"tokenizer\.json"):
        checkpoint.tokenizer_json()
