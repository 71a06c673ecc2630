from __future__ import annotations

from pathlib import Path

from rerankd.engine.inventory import inspect


def test_a_folder_is_described_without_being_loaded(xlmr: Path) -> None:
    entry = inspect(str(xlmr))
    assert (entry.family, entry.folder) == ("XLMRobertaForSequenceClassification", str(xlmr))
    assert entry.size > (xlmr / "model.safetensors").stat().st_size


def test_what_is_not_here_is_said_so() -> None:
    assert inspect("BAAI/bge-reranker-v2-m3").reason == "not on this machine"
    assert inspect("lexical").family == "lexical"
