"""POST /v1/rerank, as the `together` client sends and reads it."""

from __future__ import annotations

import json
from typing import Any

import pytest

from rerankd.dialects.together import Together
from rerankd.errors import BadRequest, ModelNotFound, Overloaded
from rerankd.types import Call, Document, RerankRequest, RerankResponse, Result, Usage
from tests.conftest import request_for

CALL = Call("the-request")
LLAMA = {"title": "Llama", "text": "A camelid."}
PANDA = {"title": "Panda", "weight": 100, "wild": None}


def parsed(**fields: Any) -> RerankRequest:
    return Together().parse_request(json.dumps({"query": "q", "documents": ["a", "b"], **fields}).encode())


def read(body: object) -> RerankResponse:
    return Together().parse_response(json.dumps(body).encode(), {}, request_for("a", "b", model="asked"))


def test_the_clients_request_is_read() -> None:
    found = parsed(model="m", top_n=2, return_documents=True)
    documents = (Document("a"), Document("b"))
    assert found == RerankRequest(query="q", documents=documents, model="m", top_n=2, return_documents=True)


def test_documents_stay_away_unless_they_are_asked_for() -> None:
    assert parsed().return_documents is False


def test_every_key_of_an_object_is_ranked_unless_some_are_named() -> None:
    documents = parsed(documents=[LLAMA, PANDA]).documents
    assert documents == (
        Document("title: Llama\ntext: A camelid.", LLAMA),
        Document("title: Panda\nweight: 100", PANDA),
    )
    named = parsed(documents=[LLAMA, PANDA], rank_fields=["title"]).documents
    assert [document.text for document in named] == ["Llama", "Panda"]


def test_an_object_that_holds_a_text_alone_is_that_text_beside_strings_and_other_objects() -> None:
    found = parsed(documents=["a", {"text": "b"}]).documents
    assert found == (Document("a"), Document("b"))
    assert parsed(documents=["a", {"text": "b"}, LLAMA]).documents[1] == Document("b")


def test_an_object_without_anything_is_named() -> None:
    for documents in (["a", {}], [LLAMA, {}], [LLAMA, {"wild": None}]):
        with pytest.raises(BadRequest) as caught:
            parsed(documents=documents)
        assert caught.value.param == "documents[1]"


def test_a_request_to_an_upstream_says_only_what_was_asked() -> None:
    request = RerankRequest(query="q", documents=(Document("title: Llama", LLAMA),), model="m", top_n=1)
    body = json.loads(Together().render_request(request))
    assert body == {"model": "m", "query": "q", "documents": ["title: Llama"], "top_n": 1}


def test_a_real_answer_is_written() -> None:
    results = (Result(1, 0.9, Document("b")), Result(0, 0.1))
    response = RerankResponse(model="m", results=results, usage=Usage(prompt_tokens=12))
    assert json.loads(Together().render_response(response, request_for("a", "b"), CALL)) == {
        "object": "rerank",
        "id": "the-request",
        "model": "m",
        "results": [
            {"index": 1, "relevance_score": 0.9, "document": {"text": "b"}},
            {"index": 0, "relevance_score": 0.1},
        ],
        "usage": {"prompt_tokens": 12, "completion_tokens": 0, "total_tokens": 12},
    }


def test_a_real_answer_is_read() -> None:
    body = {
        "object": "rerank",
        "id": "9dfa1a09",
        "model": "salesforce/turboranker-0.8-3778-6328",
        "results": [
            {"index": 1, "relevance_score": 0.29980177813003117, "document": {"text": '{"title":"Llama"}'}},
            {"index": 0, "relevance_score": 0.2752447527354349, "document": {"text": None}},
        ],
        "usage": {"prompt_tokens": 1837, "completion_tokens": 0, "total_tokens": 1837},
    }
    answer = read(body)
    assert answer.results == (
        Result(1, 0.29980177813003117, Document('{"title":"Llama"}')),
        Result(0, 0.2752447527354349),
    )
    assert answer.usage == Usage(prompt_tokens=1837)
    assert answer.model == "salesforce/turboranker-0.8-3778-6328"


def test_usage_may_be_null() -> None:
    answer = read({"object": "rerank", "results": [{"index": 0, "relevance_score": 0.5}], "usage": None})
    assert (answer.model, answer.usage) == ("asked", Usage(prompt_tokens=0, estimated=True))


@pytest.mark.parametrize(
    ("error", "status", "detail"),
    [
        (
            BadRequest("No.", param="top_n"),
            400,
            {"message": "No.", "type": "invalid_request_error", "param": "top_n", "code": "invalid_request"},
        ),
        (
            ModelNotFound("No."),
            404,
            {"message": "No.", "type": "invalid_request_error", "param": None, "code": "model_not_found"},
        ),
        (Overloaded("No."), 503, {"message": "No.", "type": "server_error", "param": None, "code": "overloaded"}),
    ],
)
def test_an_error_is_openais(error: Exception, status: int, detail: dict[str, Any]) -> None:
    found, body = Together().render_error(error, "the-request")  # type: ignore[arg-type]
    assert (found, json.loads(body)) == (status, {"error": detail})


def test_its_errors_are_read() -> None:
    body = b'{"id":"x","error":{"message":"Overloaded.","type":"overloaded","param":null,"code":null}}'
    error = Together().parse_error(503, {"retry-after": "2"}, body)
    assert isinstance(error, Overloaded)
    assert (error.message, error.retry_after) == ("Overloaded.", 2.0)
