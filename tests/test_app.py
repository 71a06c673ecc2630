from __future__ import annotations

import threading
from typing import Any

import pytest

from rerankd import app
from rerankd.app import Application, served_models
from rerankd.engine.loading import ModelSpec, load_local
from rerankd.engine.local import LocalReranker
from rerankd.engine.scheduler import Device
from rerankd.errors import LoadError
from rerankd.settings import ModelSettings, Settings
from rerankd.types import Call
from tests.conftest import request_for

TWO = {
    "models": [
        {"name": "one", "source": "lexical", "aliases": ["uno", "eins"]},
        {"name": "two", "source": "lexical"},
    ],
    "defaults": {"model": "uno"},
}


def device_threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("rerankd-")]


def test_without_any_model_named_builtin_is_served_and_with_an_empty_list_nothing() -> None:
    assert [model.name for model in served_models(Settings())] == ["builtin"]
    assert list(served_models(Settings.parse({"models": []}))) == []


async def test_each_model_ranks_under_its_name_and_its_aliases(call: Call) -> None:
    with Application(Settings.parse(TWO)) as application:
        answers = {
            name: await application.reranker.rerank(request_for(model=name), call) for name in ("one", "uno", "two")
        }
    assert {name: answer.model for name, answer in answers.items()} == {"one": "one", "uno": "one", "two": "two"}


def test_the_catalog_says_what_is_served() -> None:
    with Application(Settings.parse(TWO)) as application:
        assert application.catalog.names() == ["one", "two", "uno", "eins"]
        assert [card.family for card in application.catalog.cards] == ["lexical", "lexical"]
        assert application.catalog.name_for(None) == "uno"


def test_models_of_one_device_share_its_one_thread_and_closing_gives_it_back() -> None:
    before = device_threads()
    with Application(Settings.parse(TWO)):
        assert sorted(device_threads()) == sorted([*before, "rerankd-cpu", "rerankd-cpu-watch"])
    assert device_threads() == before


def test_every_setting_of_a_model_and_of_the_engine_reaches_what_loads_it(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[ModelSpec, float]] = []

    def load(spec: ModelSpec, devices: dict[str, Device], progress: Any, max_wait: float) -> LocalReranker:
        asked.append((spec, max_wait))
        return load_local(ModelSpec(spec.name, "lexical"), devices, progress, max_wait)

    monkeypatch.setattr(app, "load_local", load)
    model: dict[str, Any] = {
        "name": "m",
        "source": "a/folder",
        "device": "cpu",
        "dtype": "float32",
        "max_length": 100,
        "max_query_length": 20,
        "score": "logit",
        "instruction": "Find answers.",
        "quantization": "int8",
        "prefix_reuse": False,
    }
    assert set(model) == ModelSettings.model_fields.keys() - {"aliases"}
    with Application(Settings.parse({"models": [model], "engine": {"max_wait": 7.0, "batch_tokens": 512}})):
        pass
    assert asked == [(ModelSpec(**model, batch_tokens=512), 7.0)]


def test_a_models_trouble_is_that_of_its_device(monkeypatch: pytest.MonkeyPatch) -> None:
    with Application(Settings.parse(TWO)) as application:
        assert application.trouble("two") is None
        monkeypatch.setattr(Device, "trouble", "stuck")
        assert application.trouble("two") == "stuck"


def test_closing_twice_does_no_harm() -> None:
    with Application(Settings.parse(TWO)) as application:
        application.close()


def test_a_model_that_cannot_be_served_leaves_nothing_behind() -> None:
    before = device_threads()
    models = [{"name": "one", "source": "lexical"}, {"name": "two", "source": "/no/such/folder"}]
    with pytest.raises(LoadError, match="/no/such/folder"):
        Application(Settings.parse({"models": models}))
    assert device_threads() == before


def test_an_application_without_models_is_legal_and_serves_none() -> None:
    with Application(Settings.parse({"models": []})) as application:
        assert application.catalog.names() == []
