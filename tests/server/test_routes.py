"""Each wire format at its own paths: what comes in there is read, and goes out, in that format alone."""

from __future__ import annotations

import json
from typing import Any

import pytest
from starlette.testclient import TestClient

from rerankd.dialects.base import Dialect
from rerankd.dialects.directory import DIALECTS
from rerankd.server.routes import DOUBLED, RerankRoute, rerank_routes
from rerankd.types import Document, RerankRequest, RerankResponse, Result
from tests.server.conftest import MakeClient
from tests.server.rerankers import Remembering

KEY = "a-key-of-the-tests"
DOCUMENTS = ("The sky is blue.", "Paris is the capital of France.", "I like to eat pizza.")
REQUEST = RerankRequest(
    query="What is the capital of France?", documents=tuple(map(Document, DOCUMENTS)), model="lexical"
)
ROUTES = rerank_routes()

every_route = pytest.mark.parametrize("route", ROUTES, ids=lambda route: route.path)


def path_of(route: RerankRoute) -> str:
    return route.path.replace("{model:path}", "lexical")


def read(dialect: Dialect, answer: Any) -> RerankResponse:
    assert answer.status_code == 200, answer.text
    return dialect.parse_response(answer.content, dict(answer.headers), REQUEST)


def test_no_path_comes_twice() -> None:
    paths = [route.path for route in ROUTES]
    assert len(paths) == len(set(paths))


def test_the_paths_that_are_promised_are_there() -> None:
    promised = {
        "/rerank", "/v1/rerank", "/v2/rerank", "/v1/v1/rerank", "/v1/v2/rerank", "/jina/v1/rerank", "/cohere/v1/rerank",
        "/cohere/v2/rerank", "/siliconflow/v1/rerank", "/voyage/v1/rerank", "/tei/rerank", "/infinity/rerank",
        "/xinference/v1/rerank", "/vllm/v1/rerank", "/vllm/v1/score", "/llamacpp/v1/rerank", "/nvidia/v1/ranking",
        "/dashscope/api/v1/services/rerank/text-rerank/text-rerank", "/dashscope/compatible-api/v1/reranks",
        "/mixedbread/v1/reranking", "/pinecone/rerank", "/together/v1/rerank",
    }  # fmt: skip
    assert promised <= {route.path for route in ROUTES}


@every_route
def test_a_route_answers_its_own_format(shared_client: TestClient, route: RerankRoute) -> None:
    answer = shared_client.post(path_of(route), content=route.dialect.render_request(REQUEST))
    results = read(route.dialect, answer).results
    best = max(results, key=lambda result: result.relevance_score)
    assert (best.index, len(results)) == (1, 3)


@every_route
def test_an_error_has_the_shape_of_the_format(make_client: MakeClient, route: RerankRoute) -> None:
    client = make_client(api_key=KEY)
    body = json.loads(route.dialect.render_request(REQUEST))
    closed = client.post(path_of(route), json=body)
    assert closed.status_code == 401
    assert (closed.status_code, closed.content) == (401, _shape(route.dialect, closed.content))
    wrong = client.post(path_of(route), content=b"{", headers={"authorization": f"Bearer {KEY}"})
    assert wrong.status_code in (400, 422)
    error = route.dialect.parse_error(wrong.status_code, {}, wrong.content)
    assert "not JSON" in error.message


def _shape(dialect: Dialect, body: bytes) -> bytes:
    """The body, once it has been seen to be read by the format."""
    assert dialect.parse_error(401, {}, body).status == 401
    return body


@every_route
def test_a_model_that_is_not_served_is_not_found(shared_client: TestClient, route: RerankRoute) -> None:
    if route.dialect.name == "tei":  # it names no model
        return
    other = RerankRequest(query="q", documents=REQUEST.documents, model="other")
    answer = shared_client.post(
        route.path.replace("{model:path}", "other"), content=route.dialect.render_request(other)
    )
    error = route.dialect.parse_error(answer.status_code, {}, answer.content)
    assert (answer.status_code, "other" in error.message) == (404, True)


@pytest.mark.parametrize("route", [route for route in ROUTES if route.warning], ids=lambda route: route.path)
def test_a_doubled_version_is_served_and_said(shared_client: TestClient, route: RerankRoute) -> None:
    answer = shared_client.post(path_of(route), content=route.dialect.render_request(REQUEST))
    assert DOUBLED in answer.headers["x-rerankd-warning"]


@pytest.mark.parametrize(
    ("headers", "body", "expected"),
    [
        ({}, {"query": "q", "documents": ["a"]}, dict),
        ({}, {"query": "q", "texts": ["a"]}, list),
        ({}, {"query": "q", "documents": ["a"], "texts": ["b"]}, dict),
        ({}, {"query": 'the "texts" of a document', "documents": ["a"]}, dict),
    ],
)
def test_the_body_tells_at_the_root_whether_tei_is_meant(
    shared_client: TestClient, headers: dict[str, str], body: dict[str, Any], expected: type
) -> None:
    assert type(shared_client.post("/rerank", json=body, headers=headers).json()) is expected
    assert type(shared_client.post("/llamacpp/v1/rerank", json=body).json()) is expected


def test_pinecones_header_tells_that_pinecone_is_meant(shared_client: TestClient) -> None:
    body = {"model": "lexical", "query": "q", "documents": [{"text": "a"}], "rank_fields": ["text"]}
    answer = shared_client.post("/rerank", json=body, headers={"x-pinecone-api-version": "2026-07"}).json()
    assert answer["data"][0]["document"] == {"text": "a"}


def test_what_nothing_here_can_do_is_named_in_the_warnings(make_client: MakeClient) -> None:
    client = make_client(reranker=Remembering())
    body = {"query": "q", "texts": ["a"], "truncation_direction": "left"}
    assert (
        "truncation_direction: not honoured here" in client.post("/tei/rerank", json=body).headers["x-rerankd-warning"]
    )


def test_an_unknown_field_is_refused_where_the_path_is_strict_and_passed_over_elsewhere(
    make_client: MakeClient,
) -> None:
    client = make_client(server={"strict": ["/v2/rerank"]})
    body = {"model": "lexical", "query": "q", "documents": ["a"], "top_k": 3}
    refused = client.post("/v2/rerank", json=body)
    assert refused.status_code == 422
    assert refused.json()["message"] == "unknown field: parameter 'top_k' is not a valid field"
    assert client.post("/cohere/v2/rerank", json=body).status_code == 200
    body.pop("top_k")
    assert client.post("/v2/rerank", json=body).status_code == 200


def test_what_is_not_there_is_said_in_the_format_of_the_prefix(shared_client: TestClient) -> None:
    for prefix, name in (("cohere", "message"), ("jina", "detail"), ("vllm", "error"), ("dashscope", "code")):
        answer = shared_client.post(f"/{prefix}/nothing", json={})
        assert (answer.status_code, name in answer.json()) == (404, True)
    assert set(shared_client.get("/cohere/v2/rerank").json()) == {"id", "message"}


@pytest.mark.parametrize("dialect", DIALECTS.values(), ids=lambda dialect: dialect.name)
def test_scores_stand_as_the_model_gave_them(make_client: MakeClient, dialect: Dialect) -> None:
    given = (Result(0, -7.25), Result(1, 3.0625), Result(2, 17.5))
    client = make_client(reranker=Remembering(results=given))
    path = next(path_of(route) for route in ROUTES if route.dialect is dialect)
    found = read(dialect, client.post(path, content=dialect.render_request(REQUEST))).results
    assert {result.index: result.relevance_score for result in found} == {0: -7.25, 1: 3.0625, 2: 17.5}
