"""What can be said of a source without loading it and without a network: its family, and where its files are."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import msgspec

from rerankd.engine.checkpoint import Checkpoint
from rerankd.engine.minilm import find_minilm
from rerankd.engine.sources import fetch
from rerankd.errors import RerankError
from rerankd.types import BUILTIN, LEXICAL


class Entry(msgspec.Struct, frozen=True):
    """`folder` is None where the files are not here, and `reason` says why or what is used instead; size in bytes."""

    family: str
    folder: str | None = None
    reason: str = ""
    size: int = 0


def inspect(source: str) -> Entry:
    if source == LEXICAL:
        return Entry(LEXICAL, reason="needs none")
    if source == BUILTIN:
        folder = find_minilm(offline=True)
        return (
            Entry(BUILTIN, reason="not here: BM25 alone until it can be fetched")
            if folder is None
            else _found(BUILTIN, folder)
        )
    if importlib.util.find_spec("huggingface_hub") is None:
        return Entry("", reason="needs rerankd[engine]")
    try:
        checkpoint = Checkpoint(fetch(source, lambda *_: None, offline=True))
        return _found(checkpoint.architecture, checkpoint.folder)
    except RerankError:
        return Entry("", reason="not on this machine")


def _found(family: str, folder: Path) -> Entry:
    return Entry(family, str(folder), size=sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()))
