from __future__ import annotations

import asyncio
import re
from typing import Any

import pytest
from starlette.testclient import TestClient
from starlette.types import Message, Receive, Scope, Send

from rerankd.errors import EngineError
from rerankd.server.facts import Facts
from rerankd.server.request_ids import RequestIds
from tests.server.conftest import MakeClient
from tests.server.rerankers import Failing

GOOD = {"query": "q", "documents": ["d"]}
OURS = re.compile(r"[0-9a-f]{32}")
SCOPE: dict[str, Any] = {"type": "http", "method": "GET", "path": "/made-up", "headers": []}


@pytest.mark.parametrize("sent", ["r-1", "a" * 128, "A.b_c:d-9", "7", "0af7651916cd43dd8448eb211c80319c"])
def test_a_decent_id_of_the_client_is_kept(shared_client: TestClient, sent: str) -> None:
    answer = shared_client.post("/v1/rerank", json=GOOD, headers={"x-request-id": sent})
    assert (answer.headers["x-request-id"], answer.json()["id"]) == (sent, sent)


@pytest.mark.parametrize(
    "sent",
    [b"", b"a" * 129, b"two words", b"tab\there", b"a\x1b[31mb", b"r\xc3\xa9", b"<script>", b"a;b", b"a\n", b'"'],
)
def test_any_other_id_is_replaced_by_ours(shared_client: TestClient, sent: bytes) -> None:
    answer = shared_client.post("/v1/rerank", json=GOOD, headers=[(b"x-request-id", sent)])
    assert OURS.fullmatch(answer.headers["x-request-id"])
    assert answer.json()["id"] == answer.headers["x-request-id"]


def test_no_two_requests_get_the_same_id(shared_client: TestClient) -> None:
    ids = {shared_client.get("/health/live").headers["x-request-id"] for _ in range(20)}
    assert len(ids) == 20


def test_every_answer_has_an_id_and_errors_too(make_client: MakeClient) -> None:
    client = make_client(api_key="correct-horse", reranker=Failing(EngineError("x")))
    headers = {"x-api-key": "correct-horse"}
    answers = [
        client.get("/health/live"),
        client.get("/health/ready"),
        client.get("/nope"),
        client.get("/rerank"),
        client.post("/rerank", json=GOOD),
        client.post("/rerank", json=GOOD, headers=headers),
        client.post("/rerank", content=b"{", headers=headers),
        client.get("/v1/models", headers=headers),
        client.get("/docs"),
        client.get("/openapi.json"),
    ]
    assert [answer.status_code for answer in answers] == [200, 503, 404, 405, 401, 500, 400, 200, 200, 200]
    assert all(OURS.fullmatch(answer.headers["x-request-id"]) for answer in answers)


async def _bare(scope: Scope, receive: Receive, send: Send) -> None:
    await send({"type": "http.response.start", "status": 204})
    await send({"type": "http.response.body"})


async def _ending(end: BaseException) -> list[Facts]:
    """What observers are told of a request on which the application raises `end`."""
    told: list[Facts] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        raise end

    class Observer:
        def ended(self, facts: Facts) -> None:
            told.append(facts)

    with pytest.raises(type(end)):
        await RequestIds(app, [Observer()])(SCOPE | {"state": {}}, None, None)  # type: ignore[arg-type]
    return told


@pytest.mark.parametrize(("end", "status"), [(ValueError("x"), 500), (asyncio.CancelledError(), 499)])
async def test_a_request_that_ends_without_an_answer_is_told_of_too(end: BaseException, status: int) -> None:
    (told,) = await _ending(end)
    assert (told.status, told.route, told.path) == (status, "unmatched", "/made-up")
    assert told.seconds > 0


async def test_an_observer_that_fails_spoils_no_answer(caplog: pytest.LogCaptureFixture) -> None:
    class Broken:
        def ended(self, facts: Facts) -> None:
            raise ValueError("broken")

    said: list[Message] = []

    async def send(message: Message) -> None:
        said.append(message)

    await RequestIds(_bare, [Broken()])(SCOPE | {"state": {}}, None, send)  # type: ignore[arg-type]
    assert [message["type"] for message in said] == ["http.response.start", "http.response.body"]
    assert "could not be told of" in caplog.text
