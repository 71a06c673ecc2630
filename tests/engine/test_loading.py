from __future__ import annotations

from pathlib import Path

import pytest

from rerankd.engine import loading
from rerankd.engine.loading import ModelSpec, load_local
from rerankd.engine.worker import DeviceThread
from rerankd.errors import LoadError, UnsupportedModel
from rerankd.types import Call, Document, RerankRequest
from tests.engine import tiny


def nothing(*_: object) -> None:
    pass


@pytest.mark.parametrize(
    ("fixture", "family"), [("xlmr", "cross-encoder"), ("bert", "cross-encoder"), ("bi_encoder_folder", "bi-encoder")]
)
async def test_a_checkpoints_family_is_read_off_its_files(
    fixture: str, family: str, request: pytest.FixtureRequest
) -> None:
    folder: Path = request.getfixturevalue(fixture)
    threads: dict[str, DeviceThread] = {}
    model = load_local(ModelSpec("m", str(folder), "cpu"), threads, nothing)
    assert model.card.family == family
    asked = RerankRequest(query="berlin", documents=(Document("paris"), Document("berlin")))
    assert len((await model.rerank(asked, Call("r"))).results) == 2
    assert list(threads) == ["cpu"]
    threads["cpu"].close()


def test_models_of_one_device_share_its_thread(xlmr: Path) -> None:
    threads: dict[str, DeviceThread] = {}
    for name in ("a", "b"):
        load_local(ModelSpec(name, str(xlmr), "cpu"), threads, nothing)
    assert list(threads) == ["cpu"]
    threads["cpu"].close()


def test_progress_of_loading_is_told_to_the_end(xlmr: Path) -> None:
    told: list[tuple[str, float, float]] = []
    threads: dict[str, DeviceThread] = {}
    load_local(ModelSpec("m", str(xlmr), "cpu"), threads, lambda *step: told.append(step))
    threads["cpu"].close()
    assert {stage for stage, _, _ in told} == {"loading"}
    shares = [done / total for _, done, total in told]
    assert shares == sorted(shares)
    assert shares[-1] == pytest.approx(1, abs=0.2)


def test_an_architecture_that_is_not_known_is_refused_with_those_that_are(tmp_path: Path) -> None:
    folder = tiny.write_xlmr(tmp_path)
    tiny.change_config(folder, architectures=["LlamaForCausalLM"])
    threads: dict[str, DeviceThread] = {}
    with pytest.raises(UnsupportedModel, match=r"LlamaForCausalLM.*XLMRobertaForSequenceClassification"):
        load_local(ModelSpec("m", str(folder), "cpu"), threads, nothing)
    threads["cpu"].close()


def test_without_the_engine_a_checkpoint_says_what_to_install(xlmr: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loading, "has_engine", lambda: False)
    threads: dict[str, DeviceThread] = {}
    with pytest.raises(LoadError, match=r"pip install 'rerankd\[engine\]'"):
        load_local(ModelSpec("m", str(xlmr)), threads, nothing)
    assert load_local(ModelSpec("lexical", "lexical"), threads, nothing).card.family == "lexical"
    threads["cpu"].close()
