from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from rerankd.engine import calibration, loading
from rerankd.engine.admission import Rate
from rerankd.engine.loading import ModelSpec, load_local, load_scorer
from rerankd.engine.scheduler import Device
from rerankd.errors import LoadError, UnsupportedModel
from rerankd.types import Call, Document, RerankRequest
from tests.engine import tiny
from tests.engine.fake_models import EchoScorer


def nothing(*_: object) -> None:
    pass


@pytest.fixture
def devices() -> Iterator[dict[str, Device]]:
    devices: dict[str, Device] = {}
    yield devices
    for device in devices.values():
        device.close()


@pytest.mark.parametrize(
    ("fixture", "family"), [("xlmr", "cross-encoder"), ("bert", "cross-encoder"), ("bi_encoder_folder", "bi-encoder")]
)
async def test_a_checkpoints_family_is_read_off_its_files(
    fixture: str, family: str, request: pytest.FixtureRequest, devices: dict[str, Device]
) -> None:
    folder: Path = request.getfixturevalue(fixture)
    model = load_local(ModelSpec("m", str(folder), "cpu"), devices, nothing)
    assert model.card.family == family
    asked = RerankRequest(query="berlin", documents=(Document("paris"), Document("berlin")))
    assert len((await model.rerank(asked, Call("r"))).results) == 2
    assert list(devices) == ["cpu"]


def test_models_of_one_device_share_it(xlmr: Path, devices: dict[str, Device]) -> None:
    for name in ("a", "b", "c"):
        load_local(ModelSpec(name, str(xlmr) if name != "c" else "lexical", "cpu"), devices, nothing, max_wait=7.0)
    assert list(devices) == ["cpu"]
    assert devices["cpu"].admission.max_wait == 7.0


def test_progress_of_loading_is_told_to_the_end(xlmr: Path, devices: dict[str, Device]) -> None:
    told: list[tuple[str, float, float]] = []
    load_local(ModelSpec("m", str(xlmr), "cpu"), devices, lambda *step: told.append(step))
    assert {stage for stage, _, _ in told} == {"loading"}
    shares = [done / total for _, done, total in told]
    assert shares == sorted(shares)
    assert shares[-1] == pytest.approx(1, abs=0.2)


def test_a_model_is_loaded_and_measured_on_its_devices_thread(
    xlmr: Path, devices: dict[str, Device], monkeypatch: pytest.MonkeyPatch
) -> None:
    measured: list[tuple[str, Any]] = []

    def measure(runner: object, **how: Any) -> Rate:
        measured.append((threading.current_thread().name, how))
        return Rate(1.0)

    monkeypatch.setattr(calibration, "calibrate", measure)
    spec = ModelSpec("m", str(xlmr), "cpu", max_length=40, batch_tokens=256)
    load_local(spec, devices, nothing)
    assert measured == [("rerankd-cpu", {"max_length": 40, "on_cuda": False, "batch_tokens": 256})]


def test_the_size_of_a_batch_is_measured_or_what_was_asked_for(xlmr: Path, devices: dict[str, Device]) -> None:
    runners: list[Any] = []

    def kept(spec: ModelSpec, progress: Any) -> Any:
        scorer = load_scorer(spec, progress)
        runners.append(scorer.runner)
        return scorer

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loading, "load_scorer", kept)
        load_local(ModelSpec("a", str(xlmr), "cpu"), devices, nothing)
        load_local(ModelSpec("b", str(xlmr), "cpu", batch_tokens=96), devices, nothing)
    assert runners[0].batch_tokens in calibration.SIZES
    assert runners[1].batch_tokens == 96


def test_an_architecture_that_is_not_known_is_refused_by_name(tmp_path: Path, devices: dict[str, Device]) -> None:
    folder = tiny.write_xlmr(tmp_path)
    tiny.change_config(folder, architectures=["LlamaForCausalLM"])
    with pytest.raises(UnsupportedModel, match=r"LlamaForCausalLM.*docs/models\.md"):
        load_local(ModelSpec("m", str(folder), "cpu"), devices, nothing)


def test_a_model_that_cannot_rank_is_not_handed_out(
    devices: dict[str, Device], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loading, "load_scorer", lambda *_: EchoScorer(None))  # it reads numbers, not words
    with pytest.raises(LoadError, match="fails on a document"):
        load_local(ModelSpec("m", "lexical"), devices, nothing)


def test_one_gpu_has_one_thread_however_it_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    torch = pytest.importorskip("torch")
    from rerankd.engine import devices

    monkeypatch.setattr(devices, "place", lambda device, _: devices.Placement(torch.device(device), torch.float16))
    names = [loading.device_of(ModelSpec("m", "somewhere", device)) for device in ("cuda", "cuda:0", "cuda:1", "cpu")]
    assert names == ["cuda:0", "cuda:0", "cuda:1", "cpu"]


def test_without_the_engine_a_checkpoint_says_what_to_install(
    xlmr: Path, devices: dict[str, Device], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loading, "has_engine", lambda: False)
    with pytest.raises(LoadError, match=r"pip install 'rerankd\[engine\]'"):
        load_local(ModelSpec("m", str(xlmr)), devices, nothing)
    assert load_local(ModelSpec("lexical", "lexical"), devices, nothing).card.family == "lexical"
