from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from rerankd.app import Application
from rerankd.engine import worker as workers
from rerankd.engine.admission import Rate
from rerankd.engine.local import LocalReranker
from rerankd.engine.scheduler import Device
from rerankd.pipeline import Local, pipeline
from tests.engine.fake_models import PATIENCE, Echo, EchoScorer, Gated, Panic, job_of
from tests.server.conftest import settings
from tests.server.live import serving_on_a_port
from tests.server.wire import Answer, Wire, head, wire

both = pytest.mark.parametrize("path", ["/rerank", "/v1/rerank"])
LARGE = ["100 " * 6] * 2000
"""12,000 tokens, by bytes some more."""


@pytest.fixture
def device() -> Iterator[Device]:
    device = Device("test", max_wait=10.0)
    yield device
    device.close()


@pytest.fixture
def make_gated(device: Device) -> Iterator[Callable[..., Gated]]:
    made: list[Gated] = []

    def make(**how: Any) -> Gated:
        made.append(Gated(**how))
        return made[-1]

    yield make
    for runner in made:
        runner.open()


@asynccontextmanager
async def serving(runner: Echo, device: Device, **server: Any) -> AsyncIterator[int]:
    """A server of one model, which does 1,000 tokens in a second."""
    with Application(settings(server={"port": 0, **server})) as application:
        model = LocalReranker(EchoScorer(runner), device, Rate(1000.0))
        application.reranker = pipeline({"lexical": [Local(name="local", reranker=model)]}, {})
        with serving_on_a_port(application) as port:
            yield port


async def ask(connection: Wire, path: str, documents: list[str], **options: Any) -> None:
    body = json.dumps({"model": "lexical", "query": "q", "documents": documents, **options}).encode()
    await connection.send(head(path, length=len(body)) + body)


async def asked(port: int, path: str, documents: list[str], **options: Any) -> Answer:
    async with wire(port) as connection:
        await ask(connection, path, documents, **options)
        return await connection.answer()


async def soon(waiting: Any) -> Any:
    return await asyncio.wait_for(waiting, PATIENCE)


@both
async def test_a_request_that_would_wait_too_long_is_a_503_that_says_when_to_come_again(
    path: str, device: Device, make_gated: Callable[..., Gated]
) -> None:
    runner = make_gated(steps=5)
    async with serving(runner, device) as port, wire(port) as first:
        await ask(first, path, LARGE)
        await runner.reached()
        refused = await asked(port, path, ["8", *LARGE])  # the same one would only wait for the first
        assert refused.status == 503
        assert 1 <= int(refused.headers["retry-after"]) <= 3, "12 s of work, of which 10 s may be waited"
        assert refused.json()["error"]["code"] == "overloaded"
        assert "busy" in refused.json()["detail"]
        small = asyncio.create_task(asked(port, path, ["7"]))
        runner.open()
        assert (await soon(small)).status == 200, "a small request is let in"
        assert (await first.answer()).status == 200


@both
async def test_a_document_for_which_there_is_no_memory_is_a_503_and_the_next_request_is_served(
    path: str, device: Device
) -> None:
    runner = Echo(fails=lambda batch: MemoryError() if any(len(ids) > 5 for ids in batch) else None)
    async with serving(runner, device) as port:
        refused = await asked(port, path, ["1", "1 2 3 4 5 6"])
        assert refused.status == 503
        assert int(refused.headers["retry-after"]) >= 1
        assert (await asked(port, path, ["1", "2"])).status == 200


@both
async def test_a_worker_that_dies_is_a_503_at_once_and_the_next_request_is_served(
    path: str, device: Device, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workers, "REVIVAL", 0.01)
    runner = Echo(fails=lambda batch: Panic() if batch[0] == [13] else None)
    async with serving(runner, device) as port:
        refused = await asked(port, path, ["13"])
        assert refused.status == 503
        assert int(refused.headers["retry-after"]) >= 1
        assert (await asked(port, path, ["1"])).status == 200


@both
async def test_the_servers_deadline_ends_the_work_on_a_request(
    path: str, device: Device, make_gated: Callable[..., Gated]
) -> None:
    runner = make_gated(steps=100)
    async with serving(runner, device, deadline=0.3) as port:
        answer = await asked(port, path, ["1"])
        assert answer.status == 504
        assert answer.json()["error"]["code"] == "deadline_exceeded"
        assert device.jobs == set()
        assert len(device.admission) == 0
        runner.let_go()
        await soon(device.run(job_of(Echo())))
    assert runner.steps_taken <= 1, "none after the deadline but the one that ran"


async def test_a_client_that_hangs_up_leaves_nothing_in_the_engine(
    device: Device, make_gated: Callable[..., Gated]
) -> None:
    runner = make_gated(steps=100)
    async with serving(runner, device) as port:
        async with wire(port) as running, wire(port) as queued:
            await ask(running, "/rerank", ["1"])
            await runner.reached()
            await ask(queued, "/rerank", ["2"])
            while len(device.jobs) < 2:
                await asyncio.sleep(0.001)
        while device.jobs or len(device.admission):
            await asyncio.sleep(0.001)
        runner.let_go()
        other = asyncio.create_task(asked(port, "/rerank", ["3"]))
        await runner.reached()
        runner.open()
        assert (await soon(other)).status == 200
    assert runner.batches == [[[1]], [[3]]]


@both
async def test_priority_batch_lets_others_go_first(path: str, device: Device, make_gated: Callable[..., Gated]) -> None:
    runner = make_gated()
    async with serving(runner, device) as port:
        asking = [asyncio.create_task(asked(port, path, ["1"]))]
        await runner.reached()
        for number, priority in ((2, "batch"), (3, "interactive")):
            asking.append(asyncio.create_task(asked(port, path, [str(number)], priority=priority)))
            while len(device.jobs) < number:
                await asyncio.sleep(0.001)
        runner.open()
        assert [answer.status for answer in await soon(asyncio.gather(*asking))] == [200] * 3
    assert runner.batches == [[[1]], [[3]], [[2]]]
