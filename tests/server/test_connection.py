from __future__ import annotations

import asyncio
import json
from time import monotonic

import pytest

from rerankd.app import Application
from tests.server.conftest import settings
from tests.server.live import serving_on_a_port
from tests.server.wire import BODY, GOOD, Wire, head, wire

BOUND = 1.0
SLACK = 4.0
MIB = 2**20


async def send_until_closed(connection: Wire, piece: bytes, limit: int) -> tuple[int, bytes]:
    """Sends `piece` over and over, reading all the while; how many bytes went out, and what came back."""
    came_back = asyncio.create_task(connection.until_closed(BOUND + SLACK))
    sent = 0
    try:
        while sent < limit and not came_back.done():
            await connection.send(piece)
            sent += len(piece)
    except ConnectionError:
        pass
    return sent, await came_back


def status_of(answer: bytes) -> int:
    return int(answer.split(b" ", 2)[1])


def error_of(answer: bytes) -> str:
    return str(json.loads(answer.split(b"\r\n\r\n", 1)[1])["error"]["code"])


@pytest.mark.parametrize(
    ("start", "piece"),
    [
        (b"POST /rerank HTTP/1.1\r\nhost: test\r\nx: ", b"a" * 4096),
        (b"POST /rerank HTTP/1.1\r\nhost: test\r\n", b"x: y\r\n" * 700),
        (b"POST /", b"a" * 4096),
        (b"POST /rerank HTTP/1.1\r\nhost: test\r\n", b"a" * 4096),
    ],
    ids=["a value", "lines", "a target", "a name"],
)
async def test_a_head_without_end_is_refused_once_it_is_too_large(
    bounded_port: int, start: bytes, piece: bytes
) -> None:
    async with wire(bounded_port) as connection:
        await connection.send(start)
        sent, answer = await send_until_closed(connection, piece, 64 * MIB)
    assert sent < 16 * MIB
    assert status_of(answer) in (400, 431)


async def test_a_head_just_over_the_limit_is_answered_with_431_and_the_connection_ends(bounded_port: int) -> None:
    async with wire(bounded_port) as connection:
        await connection.send(b"GET /health/live HTTP/1.1\r\nhost: test\r\nx: " + b"a" * 65536)
        answer = await connection.until_closed(SLACK)
    assert (status_of(answer), error_of(answer)) == (431, "head_too_large")


async def test_a_head_that_stops_in_the_middle_is_answered_with_408(bounded_port: int) -> None:
    async with wire(bounded_port) as connection:
        await connection.send(b"POST /rerank HTTP/1.1\r\nhost: test\r\n")
        answer = await connection.until_closed(BOUND + SLACK)
    assert (status_of(answer), error_of(answer)) == (408, "request_timeout")


@pytest.mark.parametrize(
    ("start", "dripped"),
    [(b"", head(extra="x: " + "y" * 200 + "\r\n")), (head(length=500), b" " * 500)],
    ids=["head", "body"],
)
async def test_a_request_that_drips_in_is_ended_when_its_time_is_up(
    bounded_port: int, start: bytes, dripped: bytes
) -> None:
    async with wire(bounded_port) as connection:
        await connection.send(start)
        began = monotonic()
        sent = await connection.drip(dripped, pause=0.1)
        answer = await connection.until_closed(SLACK)
    assert sent < len(dripped)
    assert 0.5 * BOUND < monotonic() - began < BOUND + SLACK
    assert status_of(answer) == 408


async def test_a_connection_that_sends_nothing_is_closed_without_an_answer(bounded_port: int) -> None:
    async with wire(bounded_port) as connection:
        assert await connection.until_closed(BOUND + SLACK) == b""


async def test_a_connection_that_sends_blank_lines_for_ever_is_closed(bounded_port: int) -> None:
    async with wire(bounded_port) as connection:
        assert await connection.drip(b"\r\n" * 50, pause=0.1) < 100
        assert await connection.until_closed(SLACK) == b""


async def test_a_body_that_stops_in_the_middle_is_answered_with_408(bounded_port: int) -> None:
    async with wire(bounded_port) as connection:
        await connection.send(head() + BODY[:20])
        answer = await connection.until_closed(BOUND + SLACK)
    assert (status_of(answer), error_of(answer)) == (408, "request_timeout")


async def test_a_slow_request_that_is_whole_in_time_is_answered(bounded_port: int) -> None:
    whole = head() + BODY
    async with wire(bounded_port) as connection:
        for start in range(0, len(whole), 40):
            await connection.send(whole[start : start + 40])
            await asyncio.sleep(0.05)
        assert (await connection.answer()).status == 200


async def test_one_connection_serves_one_request_after_another(bounded_port: int) -> None:
    async with wire(bounded_port) as connection:
        for _ in range(3):
            await connection.send(GOOD)
            assert (await connection.answer()).status == 200


async def test_a_request_gets_its_full_time_on_a_connection_that_has_been_used(bounded_port: int) -> None:
    async with wire(bounded_port) as connection:
        for _ in range(3):
            await connection.send(head())
            await asyncio.sleep(0.6 * BOUND)
            await connection.send(BODY)
            assert (await connection.answer()).status == 200


async def test_a_kept_connection_may_be_idle_for_longer_than_a_request_may_take(bounded_port: int) -> None:
    async with wire(bounded_port) as connection:
        await connection.send(GOOD)
        await connection.answer()
        await asyncio.sleep(BOUND + 0.5)
        await connection.send(GOOD)
        assert (await connection.answer()).status == 200


async def test_requests_sent_without_waiting_are_answered_in_their_order(bounded_port: int) -> None:
    names = ["lexical", "no-such-model", "jina-reranker-v3", "lexical"]
    bodies = [b'{"query":"q","documents":["d"],"model":"%s"}' % name.encode() for name in names]
    async with wire(bounded_port) as connection:
        await connection.send(b"".join(head(length=len(body)) + body for body in bodies))
        answers = [await connection.answer() for _ in names]
    assert [answer.status for answer in answers] == [200, 404, 200, 200]
    assert [answer.json().get("model") for answer in answers] == ["lexical", None, "jina-reranker-v3", "lexical"]


@pytest.mark.parametrize("announced", [True, False], ids=["announced", "chunked"])
async def test_a_body_that_is_too_large_is_refused_long_before_its_end(bounded_port: int, announced: bool) -> None:
    piece = b"x" * 65536
    async with wire(bounded_port) as connection:
        if announced:
            await connection.send(head(length=10**9))
        else:
            await connection.send(b"POST /rerank HTTP/1.1\r\nhost: test\r\ntransfer-encoding: chunked\r\n\r\n")
            piece = b"10000\r\n" + piece + b"\r\n"
        sent, answer = await send_until_closed(connection, piece, 1000 * MIB)
    assert sent < 32 * MIB
    assert (status_of(answer), error_of(answer)) == (413, "request_too_large")


async def test_a_client_that_stops_after_its_refusal_is_let_go(bounded_port: int) -> None:
    async with wire(bounded_port) as connection:
        await connection.send(head(length=10**9))
        assert (await connection.answer()).status == 413
        assert await connection.until_closed(BOUND + SLACK) == b""


async def test_a_refused_body_that_is_small_leaves_the_connection_in_use(bounded_port: int) -> None:
    async with wire(bounded_port) as connection:
        await connection.send(head(extra="content-encoding: gzip\r\n"))
        assert (await connection.answer()).status == 415
        await connection.send(BODY + GOOD)
        assert (await connection.answer()).status == 200


@pytest.mark.parametrize(
    "garbage",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
        b"hello\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"POST /rerank HTTP/1.1\r\nhost: test\r\ncontent-length: -1\r\n\r\n",
        b"POST /rerank HTTP/1.1\r\nhost: test\r\ncontent-length: 99999999999999999999999\r\n\r\n",
        b"POST /rerank HTTP/1.1\r\nhost: test\r\ncontent-length: 5\r\ncontent-length: 6\r\n\r\n12345",
        b"POST /rerank HTTP/1.1\r\nhost: test\r\ncontent-length: 5\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        b"POST /rerank HTTP/1.1\r\nhost: test\r\ntransfer-encoding: chunked\r\n\r\nnot-hex\r\n",
        b"GET /\xff HTTP/1.1\r\nhost: test\r\n\r\n",
        b"CONNECT other:443 HTTP/1.1\r\nhost: test\r\n\r\n",
    ],
)
async def test_what_is_no_request_gets_a_400_in_our_own_shape(bounded_port: int, garbage: bytes) -> None:
    async with wire(bounded_port) as connection:
        await connection.send(garbage)
        answer = await connection.answer()
        assert await connection.until_closed(SLACK) == b""
    assert answer.status == 400
    assert answer.headers["content-type"] == "application/json"
    body = answer.json()
    assert body["detail"] == body["message"] == body["error"]["message"]
    assert body["error"]["code"] == "invalid_request"


async def test_a_client_that_waits_for_100_continue_is_told_to_go_on(bounded_port: int) -> None:
    async with wire(bounded_port) as connection:
        await connection.send(head(extra="expect: 100-continue\r\n"))
        assert (await connection.answer()).status == 100
        await connection.send(BODY)
        assert (await connection.answer()).status == 200


async def test_a_client_that_waits_for_100_continue_with_too_much_is_refused_at_once(bounded_port: int) -> None:
    async with wire(bounded_port) as connection:
        await connection.send(head(length=10**9, extra="expect: 100-continue\r\n"))
        assert (await connection.answer()).status == 413


async def test_an_http_1_0_client_is_answered_and_its_connection_closed(bounded_port: int) -> None:
    async with wire(bounded_port) as connection:
        await connection.send(b"GET /health/live HTTP/1.0\r\n\r\n")
        assert (await connection.answer()).status == 200
        assert await connection.until_closed(SLACK) == b""


async def test_a_request_is_answered_while_fifty_others_drip() -> None:
    async def hang(port: int, start: bytes) -> None:
        async with wire(port) as connection:
            await connection.send(start)
            await connection.drip(b"x" * 1000, pause=0.1)

    starts = [b"POST /rerank HTTP/1.1\r\nx: ", head(length=5000)] * 25
    patient = settings(server={"port": 0, "receive_timeout": 20})
    with Application(patient) as application, serving_on_a_port(application) as port:
        hanging = [asyncio.create_task(hang(port, start)) for start in starts]
        await asyncio.sleep(0.3)
        async with wire(port) as connection:
            await connection.send(GOOD)
            assert (await connection.answer()).status == 200
        assert not any(task.done() for task in hanging)
        for task in hanging:
            task.cancel()
        await asyncio.gather(*hanging, return_exceptions=True)
