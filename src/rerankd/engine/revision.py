"""What a local model's scores depend on beside the request, as one digest: servers share scores where theirs is the same.

It is made of the model's files, of how they were loaded, of the processor's kind, and of the versions of whoever computes.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import re
from pathlib import Path

from rerankd.engine.loading import ModelSpec, has_engine
from rerankd.engine.sources import ALLOWED, fetch
from rerankd.errors import LoadError
from rerankd.types import BUILTIN, LEXICAL, ModelCard
from rerankd.version import __version__

COMMIT = re.compile(r"[0-9a-f]{40}")
PACKAGES = ("torch", "transformers", "tokenizers")


def revision_of(spec: ModelSpec, card: ModelCard) -> str:
    """Of a model that is loaded. Raises `LoadError` where its files are gone."""
    facts = (
        __version__,
        *(() if spec.source == LEXICAL else (_versions(), _processor(card.device))),
        _files(spec.source),
        card.family,
        card.score,
        card.dtype,
        card.max_length,
        spec.dtype,
        spec.quantization,
        spec.score,
        spec.max_length,
        spec.max_query_length,
        spec.instruction,
        spec.prefix_reuse,
    )
    return hashlib.sha256(repr(facts).encode("utf-8", "surrogatepass")).hexdigest()


def _versions() -> list[str]:
    return [importlib.metadata.version(name) for name in PACKAGES] if has_engine() else []


def _processor(device: str) -> str:
    """Its kind: another one rounds otherwise."""
    if not has_engine():
        return device
    import torch

    if device.startswith("cuda"):
        return f"cuda {torch.cuda.get_device_name(device)}"
    return f"{device} {torch.backends.cpu.get_cpu_capability()}"


def _files(source: str) -> str:
    """What comes with rerankd has its version; a folder that a hub's client made has the commit's name; any other one is
    read whole, because sizes and dates are the same where weights were trained further, or laid down by a build.
    """
    if source in (BUILTIN, LEXICAL):
        return source
    folder = fetch(source, lambda *_: None, offline=True)
    if folder.parent.name == "snapshots" and COMMIT.fullmatch(folder.name):
        return folder.name
    try:
        return _content(folder)
    except OSError as cause:
        raise LoadError(f"The files of {source} cannot be read.") from cause


def _content(folder: Path) -> str:
    """Of every file that is ever read from a model's folder."""
    digest = hashlib.sha256()
    for path in sorted({path for pattern in ALLOWED for path in folder.glob(pattern)}):
        with path.open("rb") as file:
            digest.update(repr((str(path.relative_to(folder)), path.stat().st_size)).encode("utf-8", "surrogateescape"))
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()
