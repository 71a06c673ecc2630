from __future__ import annotations

import re

import pytest
from starlette.testclient import TestClient

from rerankd.errors import EngineError
from tests.server.conftest import MakeClient
from tests.server.rerankers import Failing

GOOD = {"query": "q", "documents": ["d"]}
OURS = re.compile(r"[0-9a-f]{32}")


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
