from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

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


def test_the_names_of_all_tensors_are_read_without_the_tensors(tmp_path: Path) -> None:
    folder = folder_with(tmp_path)
    save_file({"a": torch.zeros(2), "b.c": torch.ones(3, 3)}, folder / "model-1.safetensors", {"format": "pt"})
    save_file({"d": torch.zeros(1)}, folder / "model-2.safetensors")
    assert Checkpoint(folder).tensor_names == {"a", "b.c", "d"}


@pytest.mark.parametrize("content", [b"", b"\xff" * 9, b"\x02" + b"\0" * 7 + b"[]", b"\x05" + b"\0" * 7 + b"{"])
def test_a_file_that_is_no_safetensors_is_an_error_with_its_path(content: bytes, tmp_path: Path) -> None:
    (folder_with(tmp_path) / "model.safetensors").write_bytes(content)
    with pytest.raises(LoadError, match=r"model\.safetensors is damaged"):
        _ = Checkpoint(tmp_path).tensor_names
