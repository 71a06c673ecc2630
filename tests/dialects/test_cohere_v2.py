"""POST /v2/rerank, as `cohere.ClientV2` sends and reads it."""

from __future__ import annotations

import json
from typing import Any

import pytest

from rerankd.dialects.cohere_v2 import CohereV2
from rerankd.errors import BadRequest, ModelNotFound, UnknownField
from rerankd.types import Call, Document, RerankRequest, RerankResponse, Result, Usage
from tests.conftest import request_for

CALL = Call("the-request")


def parsed(**fields: Any) -> RerankRequest:
    return CohereV2().parse_request(json.dumps({"query": "q", "documents": ["a", "b"], **fields}).encode())


def test_a_real_request_is_read() -> None:
    found = parsed(model="m", top_n=2, max_tokens_per_doc=100, priority=0)
    documents = (Document("a"), Document("b"))
    assert found == RerankRequest(query="q", documents=documents, model="m", top_n=2, max_tokens_per_doc=100)


def test_langchains_nulls_are_absent() -> None:
    assert parsed(model="m", top_n=3, max_tokens_per_doc=None).max_tokens_per_doc is None


def test_a_real_answer_is_written() -> None:
    response = RerankResponse(model="m", results=(Result(1, 0.9),), usage=Usage(prompt_tokens=12))
    assert json.loads(CohereV2().render_response(response, request_for("a", "b"), CALL)) == {
        "id": "the-request",
        "results": [{"index": 1, "relevance_score": 0.9}],
        "meta": {
            "api_version": {"version": "2"},
            "billed_units": {"search_units": 1},
            "tokens": {"input_tokens": 12, "output_tokens": 0},
        },
    }


def test_a_real_answer_is_read() -> None:
    body = {
        "id": "07734bd2",
        "results": [{"index": 1, "relevance_score": 0.999071}, {"index": 0, "relevance_score": 0.32713068}],
        "meta": {"api_version": {"version": "2", "is_experimental": False}, "billed_units": {"search_units": 1}},
    }
    answer = CohereV2().parse_response(json.dumps(body).encode(), {}, request_for("a", "b"))
    assert answer.results == (Result(1, 0.999071), Result(0, 0.32713068))
    assert answer.usage == Usage(prompt_tokens=0, estimated=True, search_units=1)


def test_an_unknown_field_is_refused_in_coheres_words() -> None:
    status, body = CohereV2().render_error(UnknownField("No such field.", param="top_k"), "the-request")
    message = "unknown field: parameter 'top_k' is not a valid field"
    assert (status, json.loads(body)) == (422, {"id": "the-request", "message": message})


@pytest.mark.parametrize(("error", "status"), [(BadRequest("No."), 400), (ModelNotFound("No."), 404)])
def test_an_error_has_a_message_and_an_id(error: Exception, status: int) -> None:
    found, body = CohereV2().render_error(error, "the-request")  # type: ignore[arg-type]
    assert (found, json.loads(body)) == (status, {"id": "the-request", "message": "No."})


def test_counts_may_have_a_point() -> None:
    body = b'{"results": [], "meta": {"billed_units": {"search_units": 1.0}, "tokens": {"input_tokens": 12.0}}}'
    usage = CohereV2().parse_response(body, {}, request_for("a", "b")).usage
    assert usage == Usage(prompt_tokens=12, search_units=1)
    assert type(usage.prompt_tokens) is int
