"""POST /rerank, as infinity_client and litellm's `infinity/` speak it."""

from __future__ import annotations

import json
from typing import Any

import pytest

from rerankd.dialects.infinity import Infinity
from rerankd.errors import BadRequest, ModelNotFound, RateLimited, Unauthenticated, UnknownField
from rerankd.types import Call, Document, RerankRequest, RerankResponse, Result, Usage
from tests.conftest import request_for

AB = (Document("a"), Document("b"))
CALL = Call("the-request", created=1_700_000_000)


def parsed(**fields: Any) -> RerankRequest:
    return Infinity().parse_request(json.dumps({"query": "q", "documents": ["a", "b"], **fields}).encode())


def read(body: object) -> RerankResponse:
    return Infinity().parse_response(json.dumps(body).encode(), {}, request_for("a", "b", model="asked"))


def test_what_infinity_client_sends_is_read() -> None:
    found = parsed(return_documents=True, raw_scores=False, model="m", top_n=1)
    wanted = RerankRequest(
        query="q", documents=AB, model="m", top_n=1, return_documents=True, raw_scores=False, truncation=True
    )
    assert found == wanted


def test_the_formats_defaults() -> None:
    assert parsed() == RerankRequest(query="q", documents=AB, return_documents=False, raw_scores=None, truncation=True)


def test_the_clients_name_for_no_model_is_none() -> None:
    assert parsed(model="default/not-specified").model is None


def test_a_real_answer_is_written() -> None:
    results = (Result(1, 0.9, Document("b", {"text": "b", "title": "t"})),)
    response = RerankResponse(model="m", results=results, usage=Usage(prompt_tokens=12))
    assert json.loads(Infinity().render_response(response, request_for("a", "b"), CALL)) == {
        "object": "rerank",
        "results": [{"relevance_score": 0.9, "index": 1, "document": "b"}],
        "model": "m",
        "usage": {"prompt_tokens": 12, "total_tokens": 12},
        "id": "infinity-the-request",
        "created": 1_700_000_000,
    }


def test_a_document_that_nobody_asked_for_is_left_out() -> None:
    response = RerankResponse(model="m", results=(Result(1, 0.9),), usage=Usage(prompt_tokens=12))
    written = json.loads(Infinity().render_response(response, request_for("a", "b"), CALL))
    assert written["results"] == [{"relevance_score": 0.9, "index": 1}]


def test_a_real_answer_is_read() -> None:
    answer = read(
        {
            "object": "rerank",
            "results": [
                {"relevance_score": 0.9, "index": 1, "document": "b"},
                {"relevance_score": 0.1, "index": 0, "document": None},
            ],
            "model": "m",
            "usage": {"prompt_tokens": 12, "total_tokens": 12},
            "id": "infinity-1",
            "created": 1,
        }
    )
    assert answer == RerankResponse(
        model="m", results=(Result(1, 0.9, Document("b")), Result(0, 0.1)), usage=Usage(prompt_tokens=12)
    )


def test_an_answer_may_hold_nothing_but_results() -> None:
    assert read({"results": []}) == RerankResponse(
        model="asked", results=(), usage=Usage(prompt_tokens=0, estimated=True)
    )


@pytest.mark.parametrize(
    ("param", "loc"),
    [
        ("top_n", ["body", "top_n"]),
        ("documents[3].text", ["body", "documents", 3, "text"]),
        (None, ["body"]),
    ],
)
@pytest.mark.parametrize("kind", [BadRequest, UnknownField])
def test_a_bad_parameter_is_fastapis_list(kind: type[BadRequest], param: str | None, loc: list[object]) -> None:
    status, body = Infinity().render_error(kind("It must be a number.", param=param), "the-request")
    detail = [{"loc": loc, "msg": "It must be a number.", "type": "value_error"}]
    assert (status, json.loads(body)) == (422, {"detail": detail})
    read_again = Infinity().parse_error(status, {}, body)
    assert (type(read_again), read_again.message, read_again.param) == (BadRequest, "It must be a number.", param)


def test_all_that_fastapi_finds_wrong_is_read() -> None:
    detail = [
        {"loc": ["body", "query"], "msg": "Field required", "type": "missing", "input": {}},
        {"loc": ["body", "documents", 0], "msg": "Input should be a string", "type": "string_type"},
    ]
    error = Infinity().parse_error(422, {}, json.dumps({"detail": detail}).encode())
    assert isinstance(error, BadRequest)
    assert (error.message, error.param) == ("Field required; Input should be a string", "query")


def test_a_wrong_key_is_unauthorized_and_told_why() -> None:
    status, body = Infinity().render_error(Unauthenticated("The key has expired."), "the-request")
    written = json.loads(body)
    assert (status, written["detail"], written["error"]["message"]) == (401, "Unauthorized", "The key has expired.")
    assert Infinity().parse_error(status, {}, body).message == "The key has expired."


def test_the_real_servers_401_is_read() -> None:
    error = Infinity().parse_error(401, {}, b'{"detail":"Unauthorized"}')
    assert (type(error), error.message) == (Unauthenticated, "Unauthorized")


def test_other_errors_are_openais() -> None:
    status, body = Infinity().render_error(ModelNotFound("No model is named x.", param="model"), "the-request")
    detail = {"message": "No model is named x.", "type": "model_not_found", "param": "model", "code": 404}
    assert (status, json.loads(body)) == (404, {"error": detail})


def test_the_real_servers_error_is_read() -> None:
    body = b'{"error":{"message":"overloaded, too many results in queue","type":null,"param":null,"code":429}}'
    error = Infinity().parse_error(429, {"retry-after": "2"}, body)
    assert (type(error), error.message) == (RateLimited, "overloaded, too many results in queue")
    assert error.retry_after == 2.0


def test_a_list_of_nothing_is_an_error_without_a_message() -> None:
    error = Infinity().parse_error(422, {}, b'{"detail":[]}')
    assert (type(error), "422" in error.message) == (BadRequest, True)
