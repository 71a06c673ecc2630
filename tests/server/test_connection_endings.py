from __future__ import annotations

import asyncio
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from rerankd.app import Application
from rerankd.types import Call, RerankRequest, RerankResponse, Result, Usage
from tests.server.conftest import settings
from tests.server.live import serving_on_a_port
from tests.server.rerankers import Slow
from tests.server.test_connection import BOUND, MIB, SLACK, error_of, send_until_closed, status_of
from tests.server.wire import BODY, GOOD, head, wire

CHUNKED = b"POST /rerank HTTP/1.1\r\nhost: test\r\ntransfer-encoding: chunked\r\n\r\n"
H2C = "connection: Upgrade, HTTP2-Settings\r\nupgrade: h2c\r\nhttp2-settings: AAEAAEAAAAIAAAABAAMAAABk\r\n"


async def test_a_connection_is_closed_when_idle_after_a_body_that_nobody_wanted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("rerankd.server.serving.KEEP_ALIVE", 1)
    with Application(settings(server={"port": 0})) as application, serving_on_a_port(application) as port:
        async with wire(port) as connection:
            await connection.send(head("/nope", length=10))
            assert (await connection.answer()).status == 404
            await connection.send(b"0123456789")
            assert await connection.until_closed(1 + SLACK) == b""


@pytest.mark.parametrize("start", [b"0\r\nx: ", b"5;x="], ids=["trailer", "chunk extension"])
async def test_what_comes_beside_a_chunked_body_has_a_size_too(bounded_port: int, start: bytes) -> None:
    async with wire(bounded_port) as connection:
        await connection.send(CHUNKED + start)
        sent, answer = await send_until_closed(connection, b"a" * 4096, 64 * MIB)
    assert sent < 16 * MIB
    assert (status_of(answer), error_of(answer)) == (431, "head_too_large")


@pytest.mark.parametrize("pause", [0.0, 0.2], ids=["in one piece", "body later"])
async def test_a_post_that_offers_another_protocol_is_answered_in_this_one(bounded_port: int, pause: float) -> None:
    async with wire(bounded_port) as connection:
        for _ in range(2):
            await connection.send(head(extra=H2C) + (b"" if pause else BODY))
            if pause:
                await asyncio.sleep(pause)
                await connection.send(BODY)
            assert (await connection.answer()).status == 200
        await connection.send(head("/health/live", extra=H2C, length=0).replace(b"POST", b"GET") * 2000)
        assert [(await connection.answer()).status for _ in range(2000)] == [200] * 2000


@pytest.mark.parametrize("size", [300_000, 600_000, 1_200_000])
def test_a_client_that_reads_only_after_it_has_sent_still_learns_that_it_was_too_much(
    bounded_port: int, size: int
) -> None:
    for _ in range(10):
        with pytest.raises(urllib.error.HTTPError) as refused:  # urllib sends connection: close
            urllib.request.urlopen(f"http://127.0.0.1:{bounded_port}/rerank", data=b"x" * size, timeout=10)
        with refused.value as answer:
            assert answer.code == 413


async def test_a_request_sent_without_waiting_may_take_its_time_behind_a_slow_one() -> None:
    bounds = {"port": 0, "receive_timeout": BOUND}
    with Application(settings(server=bounds)) as application:
        application.reranker = Slow(1.5 * BOUND)
        with serving_on_a_port(application) as port:
            async with wire(port) as connection:
                large = BODY.replace(b"The sky", b"x" * 300_000)
                await connection.send(GOOD + head(length=len(large)))
                await asyncio.sleep(0.2)
                sending = asyncio.create_task(connection.send(large))
                assert [(await connection.answer()).status for _ in range(2)] == [200, 200]
                await sending


async def test_garbage_behind_a_request_is_not_taken_for_its_answer() -> None:
    with Application(settings(server={"port": 0})) as application:
        application.reranker = Slow(0.3)
        with serving_on_a_port(application) as port:
            async with wire(port) as connection:
                await connection.send(GOOD + b"garbage\r\n\r\n")
                assert (await connection.answer()).status == 200
                await connection.until_closed(SLACK)


async def test_a_refused_connection_has_a_request_id_too(bounded_port: int) -> None:
    async with wire(bounded_port) as connection:
        await connection.send(b"garbage\r\n\r\n")
        assert len((await connection.answer()).headers["x-request-id"]) == 32


class Repeating:
    """Answers with the documents of the request."""

    async def rerank(self, request: RerankRequest, call: Call) -> RerankResponse:
        results = tuple(Result(index, 0.5, document) for index, document in enumerate(request.documents))
        return RerankResponse(model="lexical", results=results, usage=Usage(prompt_tokens=1))


@contextmanager
def repeating(monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    monkeypatch.setattr("rerankd.server.connection.STUCK_SECONDS", 0.5)
    with Application(settings(server={"port": 0})) as application:
        application.reranker = Repeating()
        with serving_on_a_port(application) as port:
            yield port


LARGE = b'{"query":"q","documents":["%s"]}' % (b"x" * 20 * MIB)


async def test_a_client_that_never_reads_its_answer_is_let_go(monkeypatch: pytest.MonkeyPatch) -> None:
    with repeating(monkeypatch) as port:
        async with wire(port) as connection:
            await connection.send(head("/v1/rerank", length=len(LARGE)) + LARGE)
            await asyncio.sleep(3)
            assert len(await connection.until_closed(SLACK)) < len(LARGE)


async def test_a_client_that_reads_its_answer_slowly_gets_all_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    with repeating(monkeypatch) as port:
        async with wire(port) as connection:
            await connection.send(head("/v1/rerank", length=len(LARGE), extra="connection: close\r\n") + LARGE)
            answer = b""
            while piece := await connection.some(MIB):
                answer += piece
                await asyncio.sleep(0.1)
            assert len(answer) > len(LARGE)
