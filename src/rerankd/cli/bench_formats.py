"""One model in one or more number formats, each loaded as it would be served; one that fails does not stop the others."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Final

from rerankd.app import ModelProgress
from rerankd.engine import memory
from rerankd.engine.loading import ModelSpec, load_local
from rerankd.engine.local import LocalReranker
from rerankd.engine.scheduler import Device
from rerankd.errors import LoadError, RerankError
from rerankd.settings import ModelSettings

AUTO = "auto"
INT8: Final = "int8"
FORMATS = ("float32", "bfloat16", "float16", INT8)


@dataclass(frozen=True, slots=True)
class Formats:
    """By the number format that was asked for: the models, and why there is none."""

    models: dict[str, LocalReranker] = field(default_factory=dict)
    failures: dict[str, str] = field(default_factory=dict)


@contextmanager
def loaded(model: ModelSettings, names: list[str], progress: ModelProgress) -> Iterator[Formats]:
    """`model` in each of the formats `names`, all on one thread, so that they can take turns.

    Raises `LoadError` where none of them can be loaded.
    """
    devices: dict[str, Device] = {}
    formats = Formats()
    try:
        for name in names:
            try:
                formats.models[name] = _load(model, name, devices, progress)
            except RerankError as error:
                formats.failures[name] = error.message
        if not formats.models:
            raise LoadError(" ".join(dict.fromkeys(formats.failures.values())))
        yield formats
    finally:
        for device in devices.values():
            device.close()


def label(model: ModelSettings, name: str) -> str:
    return model.name if name == AUTO else f"{model.name} {name}"


def _load(model: ModelSettings, name: str, devices: dict[str, Device], progress: ModelProgress) -> LocalReranker:
    report = partial(progress, label(model, name))
    report("loading", 0.0, 1.0)
    try:
        loaded = load_local(_spec(model, name), devices, report)
    except Exception as cause:
        if not memory.lacking(cause):
            raise
        memory.release()
        raise LoadError(f"There is no memory for {model.name} in {name}.") from None
    finally:
        report("loading", 1.0, 1.0)
    if name not in (AUTO, loaded.card.dtype):
        raise LoadError(f"{model.name} runs in {loaded.card.dtype} all the same.")
    return loaded


def _spec(model: ModelSettings, name: str) -> ModelSpec:
    return ModelSpec(
        name=model.name,
        source=model.origin,
        device=model.device,
        dtype=AUTO if name == INT8 else name,
        quantization=INT8 if name == INT8 else "none",
    )
