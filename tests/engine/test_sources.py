from __future__ import annotations

import importlib.util
from fnmatch import fnmatch
from pathlib import Path

import pytest

from rerankd.engine.sources import ALLOWED, fetch, packaged
from rerankd.errors import LoadError, SourceUnreachable


def nothing(*_: object) -> None:
    pass


def test_a_folder_is_taken_as_it_is(tmp_path: Path) -> None:
    assert fetch(str(tmp_path), nothing) == tmp_path


def test_a_folder_that_is_not_there_is_said_so(tmp_path: Path) -> None:
    with pytest.raises(LoadError, match="There is no folder"):
        fetch(str(tmp_path / "nowhere"), nothing)


def test_a_hub_that_cannot_be_reached_gives_the_folder_form(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SourceUnreachable, match=r"--model bge-reranker-v2-m3=/path/to/folder"):
        fetch("BAAI/bge-reranker-v2-m3", nothing)


@pytest.mark.parametrize("source", ["bge", "a/b/c", "../x/../y z", "https://example.org/model", "-x/y", "a b/c"])
def test_what_is_no_source_is_an_error_that_lists_what_is_one(source: str) -> None:
    with pytest.raises(LoadError):
        fetch(source, nothing)


def test_modelscope_without_its_client_says_what_to_install() -> None:
    with pytest.raises(LoadError, match=r"rerankd\[modelscope\]"):
        fetch("modelscope:BAAI/bge-reranker-v2-m3", nothing)


@pytest.mark.parametrize(
    "name",
    ["modeling.py", "pytorch_model.bin", "model.pt", "onnx/model.onnx", "1_Pooling/x.py", "model.safetensors.py"],
)
def test_no_code_and_no_pickle_is_ever_fetched(name: str) -> None:
    assert not any(fnmatch(name, pattern) for pattern in ALLOWED)


def test_a_distribution_that_is_not_installed_has_no_folder() -> None:
    assert packaged("no-such-distribution-here", "model") is None


def test_without_the_hubs_client_an_id_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    with pytest.raises(LoadError, match=r"rerankd\[engine\]"):
        fetch("BAAI/bge-reranker-v2-m3", nothing)


def test_a_model_in_the_cache_is_taken_when_the_hub_cannot_be_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    snapshot = tmp_path / "models--a--b/snapshots/c0ffee"
    snapshot.mkdir(parents=True)
    (snapshot / "config.json").write_text("{}")
    (tmp_path / "models--a--b/refs").mkdir()
    (tmp_path / "models--a--b/refs/main").write_text("c0ffee")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    assert fetch("a/b", nothing) == snapshot
