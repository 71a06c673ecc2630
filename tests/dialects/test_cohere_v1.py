"""POST /v1/rerank, as `cohere.Client` sends and reads it."""

from __future__ import annotations

import json
from typing import Any

import pytest

from rerankd.dialects.cohere_v1 import CohereV1
from rerankd.errors import BadRequest, ModelNotFound, RateLimited, UnknownField
from rerankd.types import Call, Document, RerankRequest, RerankResponse, Result, Usage
from tests.conftest import request_for

CALL = Call("the-request")
BOOK = {"text": "b", "title": "t"}


def parsed(**fields: Any) -> RerankRequest:
    return CohereV1().parse_request(json.dumps({"query": "q", "documents": ["a", "b"], **fields}).encode())


def test_a_real_request_is_read() -> None:
    found = parsed(documents=["a", BOOK], top_n=2, rank_fields=["text"], return_documents=True, max_chunks_per_doc=3)
    documents = (Document("a"), Document("b", BOOK))
    assert found == RerankRequest(query="q", documents=documents, top_n=2, return_documents=True, max_chunks_per_doc=3)


def test_the_least_that_the_client_sends_asks_for_no_documents() -> None:
    assert parsed() == RerankRequest(query="q", documents=(Document("a"), Document("b")))


def test_a_request_without_a_model_is_promised_cohere_s_english_one() -> None:
    assert parsed().model is None
    assert CohereV1().default_model == "rerank-english-v3.0"


@pytest.mark.parametrize(
    ("rank_fields", "text"),
    [(None, "b"), (["title"], "t"), (["title", "text"], "title: t\ntext: b"), (["missing", "text"], "b")],
)
def test_fields_of_objects_are_ranked_in_the_order_that_was_asked_for(rank_fields: list[str] | None, text: str) -> None:
    assert parsed(documents=[BOOK], rank_fields=rank_fields).documents == (Document(text, BOOK),)


def test_an_object_without_any_of_the_fields_is_named() -> None:
    with pytest.raises(BadRequest) as caught:
        parsed(documents=[BOOK, {"text": "b"}], rank_fields=["title"])
    assert caught.value.param == "documents[1]"


def test_chunks_of_0_set_no_limit_and_ragflows_explicit_false_is_heard() -> None:
    found = parsed(max_chunks_per_doc=0, return_documents=False, top_n=None)
    assert found == parsed()


def test_documents_come_back_as_the_clients_own_objects() -> None:
    documents = (Document("a"), Document("title: t", {"title": "t", "year": 1951}), Document("title: t", BOOK))
    results = tuple(Result(index, 0.5, document) for index, document in enumerate(documents))
    response = RerankResponse(model="m", results=results, usage=Usage(prompt_tokens=1))
    body = json.loads(CohereV1().render_response(response, request_for("a", "b", "c"), CALL))
    assert [result["document"] for result in body["results"]] == [
        {"text": "a"},
        {"text": "title: t", "title": "t", "year": 1951},
        BOOK,
    ]


def test_a_real_answer_is_written() -> None:
    response = RerankResponse(
        model="m", results=(Result(1, 0.9), Result(0, 0.1)), usage=Usage(prompt_tokens=12), warnings=("cut",)
    )
    assert json.loads(CohereV1().render_response(response, request_for("a", "b"), CALL)) == {
        "id": "the-request",
        "results": [{"index": 1, "relevance_score": 0.9}, {"index": 0, "relevance_score": 0.1}],
        "meta": {
            "api_version": {"version": "1"},
            "billed_units": {"search_units": 1},
            "tokens": {"input_tokens": 12, "output_tokens": 0},
            "warnings": ["cut"],
        },
    }


def test_a_real_answer_is_read() -> None:
    body = {
        "id": "07734bd2",
        "results": [
            {"document": {"text": "b"}, "index": 1, "relevance_score": 0.98},
            {"document": {"text": "a"}, "index": 0, "relevance_score": 0.28},
        ],
        "meta": {"api_version": {"version": "1"}, "billed_units": {"search_units": 1}},
    }
    answer = CohereV1().parse_response(json.dumps(body).encode(), {}, request_for("a", "b", model="m"))
    assert answer.results == (Result(1, 0.98, Document("b")), Result(0, 0.28, Document("a")))
    assert (answer.model, answer.usage) == ("m", Usage(prompt_tokens=0, estimated=True, search_units=1))


def test_xinferences_nulls_are_absent() -> None:
    body = {
        "id": "x",
        "results": [{"index": 0, "relevance_score": 0.9, "document": None}],
        "meta": {"api_version": None, "billed_units": None, "tokens": None, "warnings": None},
    }
    answer = CohereV1().parse_response(json.dumps(body).encode(), {}, request_for("a"))
    assert (answer.results, answer.usage.estimated, answer.warnings) == ((Result(0, 0.9),), True, ())


def test_a_request_to_an_upstream_carries_what_is_ranked_and_only_what_was_asked() -> None:
    request = RerankRequest(query="q", documents=(Document("title: t", {"title": "t"}),), max_chunks_per_doc=3)
    body = json.loads(CohereV1().render_request(request))
    assert body == {"query": "q", "documents": ["title: t"], "max_chunks_per_doc": 3}


@pytest.mark.parametrize(
    ("error", "status", "message"),
    [
        (BadRequest("No."), 400, "No."),
        (ModelNotFound("No."), 404, "No."),
        (RateLimited("No."), 429, "No."),
        (UnknownField("No.", param="top_k"), 422, "unknown field: parameter 'top_k' is not a valid field"),
    ],
)
def test_an_error_has_a_message_and_an_id(error: Exception, status: int, message: str) -> None:
    found, body = CohereV1().render_error(error, "the-request")  # type: ignore[arg-type]
    assert (found, json.loads(body)) == (status, {"id": "the-request", "message": message})


def test_a_trial_keys_limit_is_a_refusal_with_coheres_words() -> None:
    error = CohereV1().parse_error(429, {"retry-after-ms": "1500"}, b'{"message": "You are using a Trial key"}')
    assert isinstance(error, RateLimited)
    assert (error.message, error.retry_after) == ("You are using a Trial key", 1.5)
