"""A name and a source become a local reranker: the files are found, their family is read off them, the weights loaded.

torch is imported only here and below, and only once a model needs it.
"""

from __future__ import annotations

import importlib
import importlib.util
from dataclasses import dataclass
from typing import Any, Literal

from rerankd.engine.admission import Rate
from rerankd.engine.checkpoint import Checkpoint, Progress
from rerankd.engine.local import LocalReranker
from rerankd.engine.scheduler import MAX_WAIT, Device
from rerankd.engine.scorer import Scorer, score
from rerankd.engine.sources import fetch
from rerankd.errors import LoadError, RerankError, UnsupportedModel
from rerankd.types import BUILTIN, LEXICAL, Document, RerankRequest

LEXICAL_RATE = 200_000.0
"""Tokens in a second where there is no device to measure; BM25 does some 300,000."""
PROOF = RerankRequest(query="ready?", documents=(Document("ready."),))


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """What to load and how; `source` is a folder, a hub's id, `builtin` or `lexical`."""

    name: str
    source: str
    device: str = "auto"
    dtype: str = "auto"
    max_length: int | None = None
    max_query_length: int | None = None
    score: Literal["auto", "probability", "logit"] = "auto"
    instruction: str | None = None
    prefix_reuse: bool = True
    quantization: Literal["none", "int8"] = "none"
    batch_tokens: int | None = None


def has_engine() -> bool:
    return all(importlib.util.find_spec(name) for name in ("torch", "transformers", "tokenizers", "safetensors"))


def load_local(
    spec: ModelSpec, devices: dict[str, Device], progress: Progress, max_wait: float = MAX_WAIT
) -> LocalReranker:
    """The model on its device, which is taken from `devices` or added to them, with `max_wait` seconds for its queue.

    It has scored a document, and its speed is known, before it is handed out. Raises `LoadError`.
    """
    name = device_of(spec)
    if name not in devices:
        devices[name] = Device(name, max_wait)
    device = devices[name]
    scorer, rate = device.call(lambda: _measured(load_scorer(spec, progress), spec))
    return LocalReranker(scorer, device, rate)


def _measured(scorer: Scorer, spec: ModelSpec) -> tuple[Scorer, Rate]:
    try:
        score(scorer, PROOF)
        return scorer, _rate(scorer, spec.batch_tokens)
    except RerankError:
        raise
    except Exception as cause:
        raise LoadError(f"{spec.name} was loaded, but it fails on a document of one word.") from cause


def _rate(scorer: Scorer, batch_tokens: int | None) -> Rate:
    if scorer.runner is None:
        return Rate(LEXICAL_RATE)
    from rerankd.engine.calibration import calibrate

    runner: Any = scorer.runner
    on_cuda = scorer.card.device.startswith("cuda")
    return calibrate(runner, max_length=scorer.card.max_length, on_cuda=on_cuda, batch_tokens=batch_tokens)


def device_of(spec: ModelSpec) -> str:
    """The name of the device whose thread the model runs on."""
    if spec.source == LEXICAL or not has_engine():
        return "cpu"
    from rerankd.engine.devices import place

    device = place(spec.device, spec.dtype).device
    return str(device) if device.type == "cpu" else f"{device.type}:{device.index or 0}"  # one thread a GPU


def load_scorer(spec: ModelSpec, progress: Progress) -> Scorer:
    """The model alone, here and now, on no device's thread: for evaluation, benchmarks and tests. Raises `LoadError`."""
    if spec.source in (LEXICAL, BUILTIN) and (spec.score, spec.quantization) != ("auto", "none"):
        raise LoadError(f"{spec.source} has one scale and one number format; leave out score and quantization.")
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
    """The first family that recognises the files has them."""
    from rerankd.engine.devices import place
    from rerankd.engine.families import FAMILIES
    from rerankd.engine.families.recipe import Loading

    checkpoint = Checkpoint(fetch(spec.source, progress))
    loading = Loading(
        name=spec.name,
        source=spec.source,
        checkpoint=checkpoint,
        placement=place(spec.device, spec.dtype),
        progress=progress,
        max_length=spec.max_length,
        max_query_length=spec.max_query_length,
        score=spec.score,
        instruction=spec.instruction,
        prefix_reuse=spec.prefix_reuse,
        int8=spec.quantization == "int8",
    )
    for name in FAMILIES:
        family = importlib.import_module(f"rerankd.engine.families.{name}")
        if family.recognises(checkpoint):
            if loading.int8 and not getattr(family, "INT8", False):
                from rerankd.engine.int8 import no_int8

                raise no_int8()
            return family.load(loading)  # type: ignore[no-any-return]
    raise UnsupportedModel(
        f"{spec.source} is a {checkpoint.architecture or 'model of no named class'}, which no family here can run; "
        "docs/models.md lists what can be."
    )
