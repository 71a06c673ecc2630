from __future__ import annotations

import logging
from typing import Any

import pytest
from httpx2 import Response
from starlette.testclient import TestClient

from rerankd.app import Application
from rerankd.catalog import Catalog
from rerankd.errors import DeadlineExceeded, EngineError, Overloaded, RateLimited, RerankError, UpstreamError
from rerankd.server.http import create_app
from rerankd.types import ModelCard
from tests.server.conftest import MakeClient, settings
from tests.server.rerankers import Failing, Remembering

ROUTES = ["/rerank", "/v1/rerank"]
FRANCE = {
    "query": "What is the capital of France?",
    "documents": ["The sky is blue.", "Paris is the capital of France.", "I like to eat pizza."],
}

both = pytest.mark.parametrize("path", ROUTES)


def error_in(response: Response) -> dict[str, Any]:
    """The error of an answer, once it is known to have the one shape that all errors have."""
    assert response.headers["content-type"] == "application/json"
    body = response.json()
    assert set(body) == {"detail", "message", "error"}
    assert set(body["error"]) == {"message", "type", "code", "param"}
    assert body["detail"] == body["message"] == body["error"]["message"] != ""
    kinds = {401: "authentication_error", 429: "rate_limit_error"}
    expected = kinds.get(
        response.status_code, "invalid_request_error" if response.status_code < 500 else "server_error"
    )
    assert body["error"]["type"] == expected
    error: dict[str, Any] = body["error"]
    return error


def test_the_local_route_answers_in_the_local_format(shared_client: TestClient) -> None:
    answer = shared_client.post("/rerank", json={**FRANCE, "model": "lexical", "return_documents": True, "top_n": 2})
    assert answer.status_code == 200
    body = answer.json()
    assert (body["model"], set(body)) == ("lexical", {"model", "usage", "results"})
    assert set(body["usage"]) == {"total_tokens"}
    assert body["usage"]["total_tokens"] > 0
    assert len(body["results"]) == 2
    first = body["results"][0]
    assert (first["index"], first["document"], first["embedding"]) == (1, FRANCE["documents"][1], None)


def test_the_superset_route_answers_in_the_superset_format(shared_client: TestClient) -> None:
    answer = shared_client.post("/v1/rerank", json={**FRANCE, "model": "lexical"}, headers={"x-request-id": "r-1"})
    assert answer.status_code == 200
    body = answer.json()
    assert (body["id"], body["object"], body["model"]) == ("r-1", "rerank", "lexical")
    assert body["results"][0]["index"] == 1
    assert body["results"][0]["document"] == {"text": FRANCE["documents"][1]}
    assert body["usage"]["total_tokens"] == body["usage"]["prompt_tokens"] > 0
    assert body["meta"]["billed_units"]["search_units"] == 1


@both
def test_an_answer_says_in_its_headers_who_it_is_what_ranked_and_how_long_it_took(
    shared_client: TestClient, path: str
) -> None:
    asked = {**FRANCE, "query": f"What is it, asked at {path}?", "model": "jina-reranker-v3"}  # not out of the cache
    headers = shared_client.post(path, json=asked).headers
    assert headers["content-type"] == "application/json"
    assert headers["x-request-id"]
    assert headers["x-rerankd-model"] == "lexical"
    assert headers["x-rerankd-channel"] == "local"
    stages = [stage.split(";dur=") for stage in headers["server-timing"].split(", ")]
    assert {"parse", "queue", "tokenize", "infer", "render"} <= {name for name, _ in stages}
    assert all(float(milliseconds) >= 0 for _, milliseconds in stages)


@both
def test_warnings_are_told_in_a_header_that_is_always_ascii(make_client: MakeClient, path: str) -> None:
    client = make_client(reranker=Remembering(warnings=("2 of 3 cut", "größer")))
    assert client.post(path, json=FRANCE).headers["x-rerankd-warning"] == "2 of 3 cut; gr??er"


def test_warnings_are_in_the_body_too_where_its_format_has_a_place_for_them(make_client: MakeClient) -> None:
    client = make_client(reranker=Remembering(warnings=("2 of 3 cut", "größer")))
    assert client.post("/v1/rerank", json=FRANCE).json()["meta"]["warnings"] == ["2 of 3 cut", "größer"]
    assert "cut" not in client.post("/rerank", json=FRANCE).text
    silent = make_client(reranker=Remembering()).post("/v1/rerank", json=FRANCE)
    assert "warnings" not in silent.json()["meta"]


@both
def test_what_a_client_asks_for_reaches_the_model(make_client: MakeClient, path: str) -> None:
    reranker = Remembering()
    options = {
        "instruction": "Find answers.",
        "max_tokens_per_doc": 7,
        "max_chunks_per_doc": 2,
        "overlap_tokens": 1,
        "truncation": False,
        "priority": "batch",
    }
    assert make_client(reranker=reranker).post(path, json={**FRANCE, **options}).status_code == 200
    (request,) = reranker.requests
    assert {name: getattr(request, name) for name in options} == options


@both
def test_an_answer_without_a_warning_has_no_header_for_one(shared_client: TestClient, path: str) -> None:
    assert "x-rerankd-warning" not in shared_client.post(path, json=FRANCE).headers


@both
def test_a_real_model_warns_where_it_has_no_embeddings(shared_client: TestClient, path: str) -> None:
    answer = shared_client.post(path, json={**FRANCE, "return_embeddings": True})
    assert "lexical has no embeddings" in answer.headers["x-rerankd-warning"]


@both
@pytest.mark.parametrize("name", ["lexical", "jina-reranker-v3"])
def test_an_answer_has_the_name_that_was_asked_for(shared_client: TestClient, path: str, name: str) -> None:
    answer = shared_client.post(path, json={**FRANCE, "model": name})
    assert (answer.json()["model"], answer.headers["x-rerankd-model"]) == (name, "lexical")


@pytest.mark.parametrize(
    ("aliases", "default", "path", "expected"),
    [
        (["jina-reranker-v3"], None, "/rerank", "jina-reranker-v3"),
        (["jina-reranker-v3"], None, "/v1/rerank", "first"),
        (["jina-reranker-v2-base-multilingual"], None, "/v1/rerank", "jina-reranker-v2-base-multilingual"),
        ([], None, "/rerank", "first"),
        (["jina-reranker-v3"], "second", "/rerank", "second"),
        (["jina-reranker-v3", "other"], "other", "/v1/rerank", "other"),
    ],
)
def test_a_request_without_a_model_gets_the_default_else_the_documented_else_the_first(
    make_client: MakeClient, aliases: list[str], default: str | None, path: str, expected: str
) -> None:
    models = [{"name": "first", "source": "lexical", "aliases": aliases}, {"name": "second", "source": "lexical"}]
    client = make_client(models=models, defaults={"model": default})
    assert client.post(path, json=FRANCE).json()["model"] == expected


def test_top_n_is_a_limit_and_zero_or_null_is_none(shared_client: TestClient) -> None:
    for top_n, count in ((1, 1), (2, 2), (0, 3), (None, 3), (99, 3), (10**30, 3)):
        assert len(shared_client.post("/rerank", json={**FRANCE, "top_n": top_n}).json()["results"]) == count


BAD_INPUTS: list[tuple[bytes, str | None]] = [
    (b"", None),
    (b"not json", None),
    (b'{"query": "q", "documents": ["a"]', None),
    (b'{"query": "q", "documents": ["a"],}', None),
    (b'{"query": "q", # why\n "documents": ["a"]}', None),
    (b'{"query": "q", "documents": ["a"], "return_documents": True}', None),
    (b'{"query": "q", "documents": ["a"]} {}', None),
    (b'{"query": "\xff", "documents": ["a"]}', None),
    (b'{"query": "\\ud800", "documents": ["a"]}', None),
    (b"[" * 100_000, None),
    (b'{"x":' * 100_000, None),
    (b"null", None),
    (b"[]", None),
    (b'"query"', None),
    (b"{}", "query"),
    (b'{"documents": ["a"]}', "query"),
    (b'{"query": null, "documents": ["a"]}', "query"),
    (b'{"query": "", "documents": ["a"]}', "query"),
    (b'{"query": 1, "documents": ["a"]}', "query"),
    (b'{"query": ["q"], "documents": ["a"]}', "query"),
    (b'{"query": "q"}', "documents"),
    (b'{"query": "q", "documents": null}', "documents"),
    (b'{"query": "q", "documents": []}', "documents"),
    (b'{"query": "q", "documents": "a"}', "documents"),
    (b'{"query": "q", "documents": {"text": "a"}}', "documents"),
    (b'{"query": "q", "documents": ["a", 1]}', "documents[1]"),
    (b'{"query": "q", "documents": ["a", null]}', "documents[1]"),
    (b'{"query": "q", "documents": [{"title": "a"}]}', "documents[0]"),
    (b'{"query": "q", "documents": [{"text": 1}]}', "documents[0].text"),
    (b'{"query": "q", "documents": ["a"], "top_n": -1}', "top_n"),
    (b'{"query": "q", "documents": ["a"], "top_n": 1.5}', "top_n"),
    (b'{"query": "q", "documents": ["a"], "top_n": "one"}', "top_n"),
    (b'{"query": "q", "documents": ["a"], "top_n": true}', "top_n"),
    (b'{"query": "q", "documents": ["a"], "top_n": 1e400}', "top_n"),
    (b'{"query": "q", "documents": ["a"], "return_documents": "yes"}', "return_documents"),
    (b'{"query": "q", "documents": ["a"], "return_embeddings": 7}', "return_embeddings"),
    (b'{"query": "q", "documents": ["a"], "model": 1}', "model"),
]


@both
@pytest.mark.parametrize(("body", "param"), BAD_INPUTS, ids=[repr(body[:60]) for body, _ in BAD_INPUTS])
def test_a_bad_body_is_a_400_that_names_the_field_and_does_no_harm(
    shared_client: TestClient, path: str, body: bytes, param: str | None
) -> None:
    answer = shared_client.post(path, content=body)
    error = error_in(answer)
    assert (answer.status_code, error["code"], error["param"]) == (400, "invalid_request", param)
    if param is not None:
        assert f"`{param.split('[')[0]}" in error["message"]
    assert shared_client.post(path, json=FRANCE).status_code == 200


@both
def test_a_body_is_read_as_json_whatever_its_content_type(shared_client: TestClient, path: str) -> None:
    body = b'{"query": "q", "documents": ["q"]}'
    for kind in ("application/json; charset=utf-8", "text/plain", "application/x-www-form-urlencoded"):
        assert shared_client.post(path, content=body, headers={"content-type": kind}).status_code == 200


@pytest.mark.parametrize("path", ["/", "/nope", "/v1", "/v3/rerank", "/rerank/x", "/RERANK", "/v1/model"])
def test_an_unknown_path_is_a_404_in_our_shape(shared_client: TestClient, path: str) -> None:
    answer = shared_client.post(path, json=FRANCE)
    assert (answer.status_code, error_in(answer)["code"]) == (404, "not_found")


@pytest.mark.parametrize(("method", "path"), [("GET", "/rerank"), ("PUT", "/v1/rerank"), ("POST", "/v1/models")])
def test_another_method_is_a_405_that_says_which_are_allowed(shared_client: TestClient, method: str, path: str) -> None:
    answer = shared_client.request(method, path)
    assert (answer.status_code, error_in(answer)["code"]) == (405, "method_not_allowed")
    assert answer.headers["allow"] == ("GET" if path == "/v1/models" else "POST")


@both
def test_an_unknown_model_is_a_404_that_lists_those_served(shared_client: TestClient, path: str) -> None:
    answer = shared_client.post(path, json={**FRANCE, "model": "gpt-4"})
    error = error_in(answer)
    assert (answer.status_code, error["code"], error["param"]) == (404, "model_not_found", "model")
    assert all(name in error["message"] for name in ("gpt-4", "lexical", "jina-reranker-v3"))


@both
def test_as_many_documents_as_are_allowed_are_ranked_and_one_more_is_a_413(make_client: MakeClient, path: str) -> None:
    client = make_client(server={"max_documents": 3})
    assert client.post(path, json={"query": "q", "documents": ["d"] * 3}).status_code == 200
    answer = client.post(path, json={"query": "q", "documents": ["d"] * 4})
    error = error_in(answer)
    assert (answer.status_code, error["code"], error["param"]) == (413, "request_too_large", "documents")
    assert "server.max_documents" in error["message"]


@both
def test_a_body_over_the_limit_is_a_413_that_names_the_setting(make_client: MakeClient, path: str) -> None:
    answer = make_client(server={"max_body": 1024}).post(path, json={"query": "q", "documents": ["d" * 1024]})
    assert (answer.status_code, error_in(answer)["code"]) == (413, "request_too_large")
    assert "server.max_body" in answer.text


@both
def test_a_compressed_body_is_a_415(shared_client: TestClient, path: str) -> None:
    answer = shared_client.post(path, content=b"\x1f\x8b", headers={"content-encoding": "gzip"})
    assert (answer.status_code, error_in(answer)["code"]) == (415, "unsupported_media")


@both
def test_an_exception_in_a_reranker_is_a_500_whose_text_only_the_log_has(
    make_client: MakeClient, caplog: pytest.LogCaptureFixture, path: str
) -> None:
    answer = make_client(reranker=Failing(ValueError("secret-detail"))).post(
        path, json=FRANCE, headers={"x-request-id": "r-500"}
    )
    error = error_in(answer)
    assert (answer.status_code, error["code"]) == (500, "engine_error")
    assert "secret-detail" not in answer.text
    assert "r-500" in error["message"]
    assert "secret-detail" in caplog.text
    assert "r-500" in caplog.text


@both
@pytest.mark.parametrize(
    ("error", "status", "retry_after"),
    [
        (EngineError("The model failed."), 500, None),
        (DeadlineExceeded("Too late."), 504, None),
        (UpstreamError("They failed."), 502, None),
        (Overloaded("The queue is full.", retry_after=2.4), 503, "3"),
        (Overloaded("The queue is full.", retry_after=0.01), 503, "1"),
        (RateLimited("Too often.", retry_after=30), 429, "30"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, RerankError) else None,
)
def test_what_a_reranker_raises_is_told_with_its_status_and_its_time_to_retry(
    make_client: MakeClient, path: str, error: RerankError, status: int, retry_after: str | None
) -> None:
    reranker = Failing(error)
    client = make_client(reranker=reranker)
    answer = client.post(path, json=FRANCE)
    told = error_in(answer)
    assert (answer.status_code, told["code"], told["message"]) == (status, error.code, error.message)
    assert answer.headers.get("retry-after") == retry_after
    reranker.error = None
    assert client.post(path, json=FRANCE).status_code == 200


@both
def test_a_request_whose_time_is_up_is_a_504(make_client: MakeClient, path: str) -> None:
    documents = ["a document of some length, to be counted"] * 5000
    client = make_client(server={"deadline": 0.001})
    answer = client.post(path, json={"query": "q", "documents": documents})
    assert (answer.status_code, error_in(answer)["code"]) == (504, "deadline_exceeded")


@both
def test_a_request_brings_its_deadline_its_id_and_its_time_to_the_reranker(make_client: MakeClient, path: str) -> None:
    reranker = Remembering()
    make_client(reranker=reranker, server={"deadline": 30}).post(path, json=FRANCE, headers={"x-request-id": "r-7"})
    (call,) = reranker.calls
    remaining = call.remaining()
    assert call.request_id == "r-7"
    assert remaining is not None
    assert 0 < remaining < 30
    assert call.created > 1_700_000_000


@both
def test_the_reranker_is_asked_once_for_exactly_what_the_client_sent(make_client: MakeClient, path: str) -> None:
    reranker = Remembering()
    make_client(reranker=reranker).post(path, json={**FRANCE, "top_n": 2, "model": "lexical", "unknown": 1})
    (request,) = reranker.requests
    assert (request.query, request.top_n, request.model) == (FRANCE["query"], 2, "lexical")
    assert [document.text for document in request.documents] == FRANCE["documents"]


def test_the_models_and_their_aliases_are_listed_as_openai_lists_models(shared_client: TestClient) -> None:
    body = shared_client.get("/v1/models").json()
    assert body["object"] == "list"
    assert [(model["id"], model["root"]) for model in body["data"]] == [
        ("lexical", "lexical"),
        ("jina-reranker-v3", "lexical"),
    ]
    for model in body["data"]:
        assert (model["object"], model["type"], model["score"]) == ("model", "rerank", "probability")
        assert isinstance(model["created"], int)


def test_a_model_is_listed_with_what_its_card_says_of_it() -> None:
    card = ModelCard(
        name="qwen",
        family="yes_no",
        score="logit",
        source="s",
        device="cuda:1",
        dtype="bfloat16",
        max_length=8192,
        instructions=True,
    )
    with Application(settings()) as application:
        application.catalog = Catalog([card], {"alias": "qwen"})
        body = TestClient(create_app(application)).get("/v1/models").json()
    facts = {"score": "logit", "max_length": 8192, "instructions": True, "dtype": "bfloat16", "device": "cuda:1"}
    assert [{name: model[name] for name in facts} for model in body["data"]] == [facts, facts]


@both
def test_nothing_of_a_query_or_a_document_is_ever_logged(
    make_client: MakeClient, caplog: pytest.LogCaptureFixture, path: str
) -> None:
    caplog.set_level(logging.DEBUG)
    texts = {"query": "canary-query", "documents": ["canary-document", {"text": "canary-text"}]}
    client = make_client(server={"max_body": 1024, "max_documents": 5})
    client.post(path, json=texts)
    client.post(path, json={**texts, "top_n": "canary-top"})
    client.post(path, json={**texts, "model": "no-such-model"})
    client.post(path, json={**texts, "documents": ["canary-document"] * 6})
    client.post(path, json={**texts, "documents": ["canary-document" * 1000]})
    client.post(path, content=b'{"query": "canary-query", canary')
    for error in (EngineError("It failed."), ValueError("It failed.")):
        make_client(reranker=Failing(error)).post(path, json=texts)
    assert path in caplog.text
    assert "canary" not in caplog.text


@both
def test_each_request_is_one_line_in_the_log_with_its_status_and_id(
    make_client: MakeClient, caplog: pytest.LogCaptureFixture, path: str
) -> None:
    caplog.set_level(logging.INFO, logger="rerankd.access")
    client = make_client()
    client.post(path, json=FRANCE, headers={"x-request-id": "first"})
    client.post(path, json={}, headers={"x-request-id": "second"})
    lines = [record.getMessage() for record in caplog.records if record.name == "rerankd.access"]
    assert len(lines) == 2
    assert lines[0].startswith("200 POST")
    assert lines[0].endswith("first")
    assert lines[1].startswith("400 POST")
    assert lines[1].endswith("second")


def test_the_docs_page_loads_nothing_from_other_hosts(shared_client: TestClient) -> None:
    page = shared_client.get("/docs").text
    assert "swagger-ui" in page
    assert "https://" not in page
    assert "//cdn" not in page


@pytest.mark.parametrize("path", ["/rerank", "/v1/rerank"])
def test_an_error_does_not_repeat_a_long_name(make_client: MakeClient, path: str) -> None:
    answer = make_client().post(path, json={"query": "q", "documents": ["d"], "model": "\U0001f600" * 100_000})
    assert answer.status_code == 404
    assert len(answer.content) < 20_000
