from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import pytest
from starlette.requests import ClientDisconnect
from starlette.types import Message, Receive, Scope

from rerankd.app import Application
from rerankd.engine.scheduler import Device
from rerankd.reranker import Reranker
from rerankd.server.cancellation import EXTENSION, HANG_UP, HangUp, unless_disconnected
from tests.engine.fake_models import Echo, Gated, job_of
from tests.server.conftest import settings
from tests.server.live import serving_on_a_port
from tests.server.rerankers import Slow
from tests.server.wire import GOOD, wire

PATIENCE = 10.0


@asynccontextmanager
async def serving(reranker: Reranker) -> AsyncIterator[int]:
    with Application(settings(server={"port": 0})) as application:
        application.reranker = reranker
        with serving_on_a_port(application) as port:
            yield port


async def happened(event: threading.Event) -> bool:
    return await asyncio.to_thread(event.wait, PATIENCE)


def waiting_client(hangs_up: asyncio.Event) -> tuple[Scope, Receive]:
    """A request whose body has been read, and whose client hangs up when it is told to."""

    async def receive() -> Message:
        await hangs_up.wait()
        return {"type": "http.disconnect"}

    return {"type": "http"}, receive


async def test_a_client_that_hangs_up_cancels_the_work_on_its_request() -> None:
    reranker = Slow(60)
    async with serving(reranker) as port:
        async with wire(port) as connection:
            await connection.send(GOOD)
            assert await happened(reranker.begun)
            assert not reranker.cancelled.is_set()
        assert await happened(reranker.cancelled)


async def test_the_server_serves_on_after_a_client_has_hung_up() -> None:
    reranker = Slow(60)
    async with serving(reranker) as port:
        async with wire(port) as connection:
            await connection.send(GOOD)
            assert await happened(reranker.begun)
        assert await happened(reranker.cancelled)
        reranker.seconds = 0
        async with wire(port) as connection:
            await connection.send(GOOD)
            assert (await connection.answer()).status == 200


async def test_a_client_that_waits_gets_its_answer_and_nothing_is_cancelled() -> None:
    reranker = Slow(0.3)
    async with serving(reranker) as port, wire(port) as connection:
        await connection.send(GOOD)
        assert (await connection.answer()).status == 200
    assert not reranker.cancelled.is_set()


async def test_work_that_ends_first_gives_its_answer() -> None:
    async def work() -> str:
        return "done"

    assert await unless_disconnected(*waiting_client(asyncio.Event()), work()) == "done"


async def test_work_that_fails_gives_its_own_error() -> None:
    async def work() -> None:
        raise ValueError("mine")

    with pytest.raises(ValueError, match="mine"):
        await unless_disconnected(*waiting_client(asyncio.Event()), work())


async def test_work_is_cancelled_when_the_one_who_waits_for_it_is_cancelled() -> None:
    cancelled, begun = asyncio.Event(), asyncio.Event()

    async def work() -> None:
        begun.set()
        try:
            await asyncio.sleep(60)
        finally:
            cancelled.set()

    waiting = asyncio.create_task(unless_disconnected(*waiting_client(asyncio.Event()), work()))
    await begun.wait()
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    await asyncio.wait_for(cancelled.wait(), PATIENCE)


def told_client(hang_up: HangUp) -> tuple[Scope, Receive]:
    """A request on a connection that says itself when it ends; asking it would wait for ever."""

    async def receive() -> Message:
        raise AssertionError("nobody needs to ask")

    return {"type": "http", "extensions": {EXTENSION: {HANG_UP: hang_up}}}, receive


async def test_work_ends_before_anything_else_happens_when_the_connection_says_that_it_ended() -> None:
    hang_up, said = HangUp(), []

    async def work() -> None:
        try:
            await asyncio.sleep(60)
        finally:
            await asyncio.sleep(0)
            said.append("cancelled")

    waiting = asyncio.create_task(unless_disconnected(*told_client(hang_up), work()))
    await asyncio.sleep(0)
    hang_up.happens()
    with pytest.raises(ClientDisconnect):
        await waiting
    assert said == ["cancelled"]


async def test_a_server_that_ends_cancels_the_work_and_is_no_client_that_hung_up() -> None:
    waiting = asyncio.create_task(unless_disconnected(*told_client(HangUp()), asyncio.sleep(60)))
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting


async def test_for_a_client_that_is_gone_already_no_work_begins() -> None:
    hang_up = HangUp()
    hang_up.happens()

    async def work() -> None:
        raise AssertionError("it began")

    with pytest.raises(ClientDisconnect):
        await unless_disconnected(*told_client(hang_up), work())


async def test_a_connection_that_ends_after_the_answer_cancels_nothing() -> None:
    hang_up = HangUp()

    async def work() -> str:
        return "done"

    assert await unless_disconnected(*told_client(hang_up), work()) == "done"
    hang_up.happens()
    await asyncio.sleep(0)


@pytest.fixture
def device() -> Iterator[Device]:
    device = Device("test")
    yield device
    device.close()


@pytest.fixture
def gated(device: Device) -> Iterator[Gated]:
    runner = Gated(steps=100)
    yield runner
    runner.open()


async def test_a_job_that_is_queued_never_starts_once_its_client_has_gone(device: Device, gated: Gated) -> None:
    running = asyncio.create_task(device.run(job_of(gated, 0)))
    await gated.reached()
    hangs_up = asyncio.Event()
    queued = asyncio.create_task(unless_disconnected(*waiting_client(hangs_up), device.run(job_of(gated, 1))))
    behind = asyncio.create_task(device.run(job_of(gated, 2)))
    while len(device.jobs) < 3:
        await asyncio.sleep(0)
    hangs_up.set()
    with pytest.raises(ClientDisconnect):
        await queued
    gated.open()
    await asyncio.wait_for(asyncio.gather(running, behind), PATIENCE)
    assert [[ids[0] for ids in batch] for batch in gated.batches] == [[0], [2]]


async def test_a_job_that_runs_ends_between_two_steps_once_its_client_has_gone(device: Device, gated: Gated) -> None:
    hangs_up = asyncio.Event()
    waiting = asyncio.create_task(unless_disconnected(*waiting_client(hangs_up), device.run(job_of(gated))))
    await gated.reached()
    hangs_up.set()
    with pytest.raises(ClientDisconnect):
        await waiting
    while device.jobs:  # the work is told by the event loop's next turn
        await asyncio.sleep(0)
    gated.let_go()
    await asyncio.wait_for(device.run(job_of(Echo())), PATIENCE)
    assert gated.steps_taken == 1
