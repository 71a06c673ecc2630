from __future__ import annotations

import asyncio

import msgspec
import pytest
from starlette.testclient import TestClient

from rerankd.app import Application
from rerankd.engine.admission import Rate
from rerankd.engine.families.lexical import Lexical
from rerankd.engine.local import LocalReranker
from rerankd.engine.scheduler import Device
from rerankd.errors import DeadlineExceeded, EngineError, ModelNotFound, Overloaded
from rerankd.server import health
from rerankd.server.health import Readiness
from rerankd.server.http import create_app
from rerankd.types import Call, Document, RerankRequest, RerankResponse
from tests.engine.fake_models import PATIENCE, Echo, EchoScorer, Gated, Panic, dead_until_told
from tests.server.conftest import MakeClient, settings
from tests.server.rerankers import Failing, Remembering, answer_to

TWO = [{"name": "good", "source": "lexical"}, {"name": "bad", "source": "lexical"}]


class Numbered:
    """Asks a model that reads numbers for the number 7, whatever it is asked."""

    def __init__(self, inner: LocalReranker) -> None:
        self._inner = inner

    async def rerank(self, request: RerankRequest, call: Call) -> RerankResponse:
        return await self._inner.rerank(msgspec.structs.replace(request, documents=(Document("7"),)), call)


class FailsFor:
    """Ranks for every model but one."""

    def __init__(self, model: str) -> None:
        self._model = model

    async def rerank(self, request: RerankRequest, call: Call) -> RerankResponse:
        if request.model == self._model:
            raise EngineError("Out of memory.")
        return answer_to(request)


def test_ready_says_that_a_real_model_ranks(make_client: MakeClient) -> None:
    answer = make_client(models=TWO).get("/health/ready")
    assert (answer.status_code, answer.json()) == (200, {"status": "ready", "models": {"good": True, "bad": True}})


def test_ready_asks_each_model_to_rank(make_client: MakeClient) -> None:
    reranker = Remembering()
    make_client(models=TWO, reranker=reranker).get("/health/ready")
    assert sorted(request.model or "" for request in reranker.requests) == ["bad", "good"]
    assert all(request.query and request.documents for request in reranker.requests)


def test_a_model_that_fails_is_a_503_that_names_it(make_client: MakeClient) -> None:
    answer = make_client(models=TWO, reranker=FailsFor("bad")).get("/health/ready")
    assert answer.status_code == 503
    assert answer.json() == {"status": "not ready", "models": {"good": True, "bad": False}}


@pytest.mark.parametrize("error", [EngineError("x"), DeadlineExceeded("x"), Overloaded("x"), ModelNotFound("x")])
def test_whatever_a_reranker_raises_it_is_not_ready(make_client: MakeClient, error: Exception) -> None:
    client = make_client(reranker=Failing(error))
    assert client.get("/health/ready").status_code == 503
    assert client.get("/health/live").status_code == 200


def test_a_model_that_recovers_is_ready_at_once(make_client: MakeClient) -> None:
    reranker = Failing(EngineError("x"))
    client = make_client(reranker=reranker)
    assert client.get("/health/ready").status_code == 503
    reranker.error = None
    assert client.get("/health/ready").status_code == 200


def test_a_model_that_was_probed_lately_is_not_probed_again(make_client: MakeClient) -> None:
    reranker = Remembering()
    client = make_client(reranker=reranker)
    for _ in range(5):
        assert client.get("/health/ready").status_code == 200
    assert len(reranker.requests) == 1


def test_a_model_that_ranked_a_request_lately_is_not_probed(make_client: MakeClient) -> None:
    reranker = Remembering()
    client = make_client(reranker=reranker)
    client.post("/rerank", json={"query": "q", "documents": ["d"]})
    assert client.get("/health/ready").status_code == 200
    assert [request.query for request in reranker.requests] == ["q"]


def test_a_model_is_probed_again_when_its_last_success_is_old(
    make_client: MakeClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(health, "LATELY", 0.0)
    reranker = Remembering()
    client = make_client(reranker=reranker)
    client.get("/health/ready")
    client.get("/health/ready")
    assert len(reranker.requests) == 2


def test_a_request_that_failed_does_not_count_as_a_success(make_client: MakeClient) -> None:
    client = make_client(reranker=Failing(EngineError("x")))
    client.post("/rerank", json={"query": "q", "documents": ["d"]})
    assert client.get("/health/ready").status_code == 503


def test_a_server_without_models_is_ready(make_client: MakeClient) -> None:
    answer = make_client(models=[]).get("/health/ready")
    assert (answer.status_code, answer.json()["models"]) == (200, {})


def test_live_never_asks_a_model(make_client: MakeClient) -> None:
    reranker = Remembering()
    answer = make_client(reranker=reranker).get("/health/live")
    assert (answer.status_code, answer.json()) == (200, {"status": "live"})
    assert reranker.requests == []


def test_a_device_in_trouble_is_not_ready_though_a_request_was_ranked_lately(
    make_client: MakeClient, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    client = make_client()
    assert client.post("/rerank", json={"query": "q", "documents": ["d"]}).status_code == 200
    with monkeypatch.context() as patch:
        patch.setattr(Device, "trouble", "its worker has not moved for 61 s")
        answer = client.get("/health/ready")
        assert (answer.status_code, answer.json()["models"]) == (503, {"lexical": False})
        assert "has not moved" in caplog.text
        assert client.get("/health/live").status_code == 200
    assert client.get("/health/ready").status_code == 200


async def test_after_trouble_a_model_shows_that_it_ranks_again() -> None:
    trouble: dict[str, str] = {}
    reranker = Remembering()
    readiness = Readiness(reranker, ["lexical"], trouble.get)
    assert await readiness.states() == {"lexical": True}
    trouble["lexical"] = "dead"
    assert await readiness.states() == {"lexical": False}
    assert len(reranker.requests) == 1, "a dead worker is not asked"
    trouble.clear()
    assert await readiness.states() == {"lexical": True}
    assert len(reranker.requests) == 2


async def test_a_worker_that_dies_is_seen_until_it_lives_and_ranks_again(monkeypatch: pytest.MonkeyPatch) -> None:
    deaths = [Panic()]
    device = Device("test")
    model = LocalReranker(EchoScorer(Echo(fails=lambda _: deaths.pop() if deaths else None)), device, Rate(1e6))
    readiness = Readiness(Numbered(model), ["m"], lambda _: model.trouble)
    with dead_until_told(monkeypatch) as told:
        assert await readiness.states() == {"m": False}, "the probe killed it"
        assert model.trouble is not None
        assert await readiness.states() == {"m": False}
        told.set()
        while model.trouble:
            await asyncio.sleep(0.001)
        assert await readiness.states() == {"m": True}
    device.close()


async def test_a_long_request_does_not_make_the_server_unready(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health, "LATELY", 0.0)
    device, runner = Device("test"), Gated(steps=24)
    model = LocalReranker(EchoScorer(runner), device, Rate(1e6))
    documents = tuple(Document("1 " * 60) for _ in range(1000))
    call = Call("long")
    long = asyncio.create_task(model.rerank(RerankRequest(query="q", documents=documents, priority="batch"), call))
    try:
        await runner.reached()
        readiness = Readiness(Numbered(model), ["m"])
        for _ in range(5):
            asked = asyncio.create_task(readiness.states())
            while len(device.jobs) < 2:
                await asyncio.sleep(0.001)
            runner.let_go(1 + 24)  # the step that the long one is at, and the probe's
            assert await asyncio.wait_for(asked, PATIENCE) == {"m": True}
        assert not long.done()
        assert len(runner.batches) == 1 + 5, "the long one is still at its first batch"
    finally:
        runner.open()
        assert len((await asyncio.wait_for(long, PATIENCE)).results) == 1000
        device.close()


async def test_many_who_ask_at_once_share_one_probe() -> None:
    reranker = Remembering()
    readiness = Readiness(reranker, ["lexical"])
    states = await asyncio.gather(*(readiness.states() for _ in range(20)))
    assert states == [{"lexical": True}] * 20
    assert len(reranker.requests) == 1


async def test_a_probe_has_a_deadline_of_its_own() -> None:
    reranker = Remembering()
    await Readiness(reranker, ["lexical"]).states()
    (call,) = reranker.calls
    remaining = call.remaining()
    assert remaining is not None
    assert 0 < remaining <= health.PROBE_TIME


def test_a_bug_in_a_reranker_is_not_ready_and_is_logged(
    make_client: MakeClient, caplog: pytest.LogCaptureFixture
) -> None:
    answer = make_client(reranker=Failing(ValueError("boom"))).get("/health/ready")
    assert (answer.status_code, answer.json()["models"]) == (503, {"lexical": False})
    assert "boom" in caplog.text


def test_what_the_cache_answers_makes_nobody_ready(make_client: MakeClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health, "LATELY", 0.0)
    client = make_client(models=[{"name": "lexical"}])
    body = {"query": "ready", "documents": ["ready"], "model": "lexical"}
    assert [client.post("/rerank", json=body).status_code for _ in range(2)] == [200, 200]
    assert client.get("/health/ready").status_code == 200

    def broken(*_: object) -> None:
        raise ValueError("boom")

    monkeypatch.setattr(Lexical, "prepare", broken)
    assert client.post("/rerank", json=body).status_code == 200, "it was kept"
    assert client.get("/health/ready").status_code == 503


class Elsewhere:
    """A channel that serves a model of the same name as one on this machine."""

    async def rerank(self, request: RerankRequest, call: Call) -> RerankResponse:
        call.notes.channel = "elsewhere"
        return answer_to(request)


def test_what_a_channel_answers_under_the_name_of_a_model_here_makes_that_one_not_ready() -> None:
    with Application(settings()) as application:
        application.reranker, application.bare = Elsewhere(), Failing(EngineError("Out of memory."))
        client = TestClient(create_app(application))
        assert client.post("/rerank", json={"query": "q", "documents": ["a"], "model": "lexical"}).status_code == 200
        assert client.get("/health/ready").status_code == 503
