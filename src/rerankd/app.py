"""Builds everything that serves, from the settings; closes everything that it built. There is no logic here."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import TracebackType

from rerankd.catalog import Catalog
from rerankd.engine.loading import ModelSpec, load_local
from rerankd.engine.local import LocalReranker
from rerankd.engine.scheduler import Device
from rerankd.pipeline import pipeline
from rerankd.reranker import Reranker
from rerankd.settings import EngineSettings, ModelSettings, Settings
from rerankd.types import BUILTIN

ModelProgress = Callable[[str, str, float, float], None]
"""Called with a model's name, what is going on with it, and how much of how much is done."""


class Application:
    """What the settings describe, ready to rank: `reranker` over the models of `catalog`.

    Raises `LoadError` where a model cannot be served; nothing is left behind then.
    """

    def __init__(self, settings: Settings, progress: ModelProgress | None = None) -> None:
        self.settings = settings
        self._devices: dict[str, Device] = {}
        try:
            self._models = {model.name: self._load(model, progress) for model in served_models(settings)}
        except BaseException:
            self.close()
            raise
        aliases = {alias: model.name for model in settings.models for alias in model.aliases}
        self.catalog = Catalog([model.card for model in self._models.values()], aliases, settings.defaults.model)
        self.reranker: Reranker = pipeline(self._models, aliases)

    def trouble(self, model: str) -> str | None:
        """What keeps the device of `model` from working, or None."""
        return self._models[model].trouble

    def _load(self, model: ModelSettings, progress: ModelProgress | None) -> LocalReranker:
        def report(stage: str, done: float, total: float) -> None:
            if progress is not None:
                progress(model.name, stage, done, total)

        report("loading", 0.0, 1.0)
        return load_local(_spec(model, self.settings.engine), self._devices, report, self.settings.engine.max_wait)

    def close(self) -> None:
        for device in self._devices.values():
            device.close()

    def __enter__(self) -> Application:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _spec(model: ModelSettings, engine: EngineSettings) -> ModelSpec:
    return ModelSpec(
        name=model.name,
        source=model.origin,
        device=model.device,
        dtype=model.dtype,
        max_length=model.max_length,
        max_query_length=model.max_query_length,
        score=model.score,
        instruction=model.instruction,
        prefix_reuse=model.prefix_reuse,
        quantization=model.quantization,
        batch_tokens=engine.batch_tokens,
    )


def served_models(settings: Settings) -> Sequence[ModelSettings]:
    """The configured models; `builtin` where the configuration names none at all."""
    if "models" in settings.model_fields_set:
        return settings.models
    return (ModelSettings(name=BUILTIN),)
