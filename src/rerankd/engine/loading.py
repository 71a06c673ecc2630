"""A name and a source become a local reranker: the files are found, their family is read off them, the weights loaded.

torch is imported only here and below, and only once a model needs it.
"""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass

from rerankd.engine.checkpoint import Checkpoint, Progress
from rerankd.engine.local import LocalReranker
from rerankd.engine.scorer import Scorer, Watch
from rerankd.engine.sources import fetch
from rerankd.engine.worker import DeviceThread
from rerankd.errors import LoadError, UnsupportedModel
from rerankd.types import BUILTIN, LEXICAL


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """What to load and how; `source` is a folder, a hub's id, `builtin` or `lexical`."""

    name: str
    source: str
    device: str = "auto"
    dtype: str = "auto"
    max_length: int | None = None


def has_engine() -> bool:
    return all(importlib.util.find_spec(name) for name in ("torch", "transformers", "tokenizers", "safetensors"))


def load_local(spec: ModelSpec, threads: dict[str, DeviceThread], progress: Progress) -> LocalReranker:
    """The model on its device's thread, which is taken from `threads` or added to them.

    It has scored a document before it is handed out. Raises `LoadError`.
    """
    device = _device(spec)
    if device not in threads:
        threads[device] = DeviceThread(device)
    thread = threads[device]
    return LocalReranker(thread.call(lambda: _proved(_load(spec, progress))), thread)


def _proved(scorer: Scorer) -> Scorer:
    scorer.score("ready?", ["ready."], Watch())
    return scorer


def _device(spec: ModelSpec) -> str:
    if spec.source == LEXICAL or not has_engine():
        return "cpu"
    from rerankd.engine.devices import place

    return str(place(spec.device, spec.dtype).device)


def _load(spec: ModelSpec, progress: Progress) -> Scorer:
    if spec.source == LEXICAL:
        from rerankd.engine.families.lexical import Lexical

        return Lexical(spec.name)
    if spec.source == BUILTIN:
        from rerankd.engine.families import builtin

        return builtin.load(spec.name, spec.device, spec.dtype, progress)
    if not has_engine():
        raise LoadError(f"{spec.name} needs the engine: pip install 'rerankd[engine]'")
    return _from_checkpoint(spec, progress)


def _from_checkpoint(spec: ModelSpec, progress: Progress) -> Scorer:
    from rerankd.engine.devices import place
    from rerankd.engine.families import bi_encoder, cross_encoder

    checkpoint = Checkpoint(fetch(spec.source, progress))
    placement = place(spec.device, spec.dtype)
    if checkpoint.architecture in cross_encoder.ARCHITECTURES:
        return cross_encoder.load(spec.name, spec.source, checkpoint, placement, spec.max_length, progress)
    if checkpoint.architecture in bi_encoder.ARCHITECTURES:
        return bi_encoder.load(spec.name, spec.source, checkpoint, placement, spec.max_length, progress)
    known = ", ".join(sorted([*cross_encoder.ARCHITECTURES, *bi_encoder.ARCHITECTURES]))
    raise UnsupportedModel(
        f"{spec.source} is a {checkpoint.architecture or 'model of no named class'}; known are {known}."
    )
