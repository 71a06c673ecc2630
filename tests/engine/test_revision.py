from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import msgspec
import pytest

from rerankd.engine import revision
from rerankd.engine.loading import ModelSpec
from rerankd.engine.revision import revision_of
from rerankd.errors import LoadError
from rerankd.types import ModelCard

CARD = ModelCard(name="m", family="f", score="logit", source="s", device="cpu", dtype="float32", max_length=100)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    place = tmp_path / "model"
    place.mkdir()
    for name in ("config.json", "tokenizer.json", "model.safetensors", "README.md"):
        (place / name).write_bytes(bytes(100))
    return place


def of(source: Path | str, card: ModelCard = CARD, **changes: Any) -> str:
    return revision_of(ModelSpec(name="m", source=str(source), **changes), card)


def test_a_copy_is_the_same_model_whatever_its_name_its_date_and_what_else_lies_there(folder: Path) -> None:
    copy = folder.parent / "copy"
    shutil.copytree(folder, copy, copy_function=shutil.copy)
    (copy / "README.md").write_text("another")
    assert revision_of(ModelSpec(name="other", source=str(copy)), CARD) == of(folder)


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "model.safetensors"])
def test_one_bit_of_a_file_makes_another_model(folder: Path, name: str) -> None:
    before = of(folder)
    (folder / name).write_bytes(bytes(99) + b"\1")
    assert of(folder) != before


def test_what_a_hub_laid_down_is_known_by_its_commit_and_not_read(tmp_path: Path) -> None:
    one, two = (tmp_path / "snapshots" / (digit * 40) for digit in "ab")
    for place in (one, two):
        place.mkdir(parents=True)
    assert of(one) != of(two)
    (one / "model.safetensors").write_text("not read")
    before = of(one)
    (one / "model.safetensors").unlink()
    assert of(one) == before


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("dtype", "float16"),
        ("quantization", "int8"),
        ("score", "probability"),
        ("max_length", 50),
        ("max_query_length", 5),
        ("instruction", "Find."),
        ("prefix_reuse", False),
    ],
)
def test_how_it_was_loaded_counts(field: str, value: Any) -> None:
    assert of("lexical", **{field: value}) != of("lexical")


@pytest.mark.parametrize(
    ("field", "value"),
    [("family", "g"), ("score", "cosine"), ("dtype", "int8"), ("max_length", 50), ("device", "another")],
)
def test_what_became_of_it_counts(field: str, value: Any) -> None:
    assert of("builtin", msgspec.structs.replace(CARD, **{field: value})) != of("builtin")


def test_which_of_several_devices_of_a_kind_does_not(monkeypatch: pytest.MonkeyPatch) -> None:
    torch = pytest.importorskip("torch")
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "a GPU")
    one, two = (msgspec.structs.replace(CARD, device=f"cuda:{number}") for number in range(2))
    assert of("builtin", one) == of("builtin", two) != of("builtin")


def test_versions_count(monkeypatch: pytest.MonkeyPatch) -> None:
    before = of("lexical")
    monkeypatch.setattr(revision, "__version__", "0.0.0")
    assert of("lexical") != before


def test_files_that_are_gone_are_a_load_error(folder: Path) -> None:
    shutil.rmtree(folder)
    with pytest.raises(LoadError):
        of(folder)
