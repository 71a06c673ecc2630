"""POST /v1/rerank, as `voyageai.Client` sends and reads it."""

from __future__ import annotations

import json
from typing import Any

import pytest

from rerankd.dialects.voyage import Voyage
from rerankd.errors import BadRequest, Overloaded, RateLimited, Unauthenticated, UpstreamMalformed
from rerankd.types import Call, Document, RerankRequest, RerankResponse, Result, Usage
from tests.conftest import request_for

CALL = Call("the-request")
BOTH = (Document("a"), Document("b"))


def parsed(**fields: Any) -> RerankRequest:
    return Voyage().parse_request(json.dumps({"query": "q", "documents": ["a", "b"], **fields}).encode())


def read(body: object) -> RerankResponse:
    return Voyage().parse_response(json.dumps(body).encode(), {}, request_for("a", "b", model="asked"))


def test_the_clients_request_is_read() -> None:
    assert parsed(model="m", top_k=None, truncation=True) == RerankRequest(query="q", documents=BOTH, model="m")


def test_every_field_is_read() -> None:
    found = parsed(model="m", top_k=1, return_documents=True, truncation=False)
    assert found == RerankRequest(
        query="q", documents=BOTH, model="m", top_n=1, return_documents=True, truncation=False
    )


def test_top_n_is_no_field_of_voyages() -> None:
    assert parsed(top_n=1).top_n is None


@pytest.mark.parametrize(("fields", "param"), [({"top_k": -1}, "top_k"), ({"top_k": "one"}, "top_k")])
def test_the_fault_is_named_as_the_client_knows_it(fields: dict[str, Any], param: str) -> None:
    with pytest.raises(BadRequest) as caught:
        parsed(**fields)
    assert caught.value.param == param


def test_a_request_to_an_upstream_says_only_what_was_asked() -> None:
    least = request_for("a", "b", model="m")
    assert json.loads(Voyage().render_request(least)) == {"model": "m", "query": "q", "documents": ["a", "b"]}
    most = RerankRequest(query="q", documents=BOTH, top_n=1, return_documents=True, truncation=False)
    body = json.loads(Voyage().render_request(most))
    assert (body["top_k"], body["return_documents"], body["truncation"]) == (1, True, False)


def test_a_real_answer_is_written() -> None:
    results = (Result(1, 0.9, Document("b", {"text": "b", "title": "t"})), Result(0, 0.1))
    response = RerankResponse(model="m", results=results, usage=Usage(prompt_tokens=12))
    assert json.loads(Voyage().render_response(response, request_for("a", "b"), CALL)) == {
        "object": "list",
        "data": [{"relevance_score": 0.9, "index": 1, "document": "b"}, {"relevance_score": 0.1, "index": 0}],
        "model": "m",
        "usage": {"total_tokens": 12},
    }


def test_a_real_answer_is_read() -> None:
    body = {
        "object": "list",
        "data": [
            {"relevance_score": 0.4375, "index": 1, "document": "b"},
            {"relevance_score": 0.421875, "index": 0},
        ],
        "model": "rerank-2.5",
        "usage": {"total_tokens": 26},
    }
    answer = read(body)
    assert answer.results == (Result(1, 0.4375, Document("b")), Result(0, 0.421875))
    assert (answer.model, answer.usage) == ("rerank-2.5", Usage(prompt_tokens=26))


def test_parts_may_be_absent_but_the_data_may_not() -> None:
    answer = read({"data": [{"index": 0, "relevance_score": 0.5}]})
    assert (answer.model, answer.usage) == ("asked", Usage(prompt_tokens=0, estimated=True))
    with pytest.raises(UpstreamMalformed):
        read({"results": [{"index": 0, "relevance_score": 0.5}]})


@pytest.mark.parametrize(
    ("error", "status"),
    [(BadRequest("No."), 400), (Unauthenticated("No."), 401), (RateLimited("No."), 429), (Overloaded("No."), 503)],
)
def test_an_error_has_the_detail_without_which_the_client_sees_an_invalid_response(
    error: Exception, status: int
) -> None:
    found, body = Voyage().render_error(error, "the-request")  # type: ignore[arg-type]
    assert (found, json.loads(body)) == (status, {"detail": "No."})


def test_its_errors_are_read() -> None:
    error = Voyage().parse_error(401, {}, b'{"detail":"Provided API key is invalid."}')
    assert isinstance(error, Unauthenticated)
    assert error.message == "Provided API key is invalid."
