"""POST /rerank with Pinecone's headers, as the `pinecone` SDK sends and reads it."""

from __future__ import annotations

import json
from typing import Any

import pytest

from rerankd.dialects.pinecone import Pinecone
from rerankd.errors import (
    BadRequest,
    EngineError,
    ModelNotFound,
    RateLimited,
    RerankError,
    Unauthenticated,
    UpstreamError,
    UpstreamMalformed,
)
from rerankd.types import Call, Document, RerankRequest, RerankResponse, Result, Usage
from tests.conftest import request_for

CALL = Call("the-request")
BOTH = (Document("a"), Document("b"))
OBJECTS = [{"text": "a"}, {"text": "b"}]


def parsed(**fields: Any) -> RerankRequest:
    return Pinecone().parse_request(json.dumps({"query": "q", "documents": OBJECTS, **fields}).encode())


def read(body: object) -> RerankResponse:
    return Pinecone().parse_response(json.dumps(body).encode(), {}, request_for("a", "b", model="asked"))


def test_the_sdks_request_is_read() -> None:
    found = parsed(model="m", rank_fields=["text"], return_documents=True, top_n=1, parameters={"truncate": "END"})
    assert found == RerankRequest(query="q", documents=BOTH, model="m", top_n=1, return_documents=True, truncation=True)


def test_documents_come_back_and_nothing_is_cut_unless_the_client_says_so() -> None:
    found = parsed()
    assert (found.return_documents, found.truncation) == (True, False)
    assert not parsed(return_documents=False).return_documents
    assert parsed(return_documents=None).return_documents


@pytest.mark.parametrize(
    ("parameters", "truncation"),
    [
        (None, False),
        ({}, False),
        ({"truncate": None}, False),
        ({"truncate": "NONE"}, False),
        ({"truncate": "END"}, True),
    ],
)
def test_only_end_cuts(parameters: object, truncation: bool) -> None:
    assert parsed(parameters=parameters).truncation is truncation


def test_coheres_parameter_is_read_and_others_are_passed_over() -> None:
    assert parsed(parameters={"max_chunks_per_doc": 3, "anything": [1]}).max_chunks_per_doc == 3


def test_rank_fields_say_what_is_ranked() -> None:
    sent = [{"id": "vec1", "chunk_text": "a"}]
    assert parsed(documents=sent, rank_fields=["chunk_text"]).documents == (Document("a", sent[0]),)


@pytest.mark.parametrize(
    ("fields", "param", "message"),
    [
        ({"documents": [{"text": "a"}, {"chunk_text": "b"}]}, "documents[1]", "`documents[1]` lacks `text`"),
        (
            {"parameters": {"truncate": "START"}},
            "parameters.truncate",
            '`parameters.truncate` must be "END" or "NONE".',
        ),
        ({"parameters": 7}, "parameters", "`parameters` must be an object, not a number."),
        (
            {"parameters": {"max_chunks_per_doc": -1}},
            "parameters.max_chunks_per_doc",
            "`parameters.max_chunks_per_doc` ",
        ),
    ],
)
def test_the_fault_is_named_with_its_whole_path(fields: dict[str, Any], param: str, message: str) -> None:
    with pytest.raises(BadRequest) as caught:
        parsed(**fields)
    assert (caught.value.param, caught.value.message[: len(message)]) == (param, message)


def test_a_request_to_an_upstream_leaves_nothing_to_its_defaults() -> None:
    assert json.loads(Pinecone().render_request(request_for("a", "b", model="m"))) == {
        "model": "m",
        "query": "q",
        "documents": OBJECTS,
        "rank_fields": ["text"],
        "return_documents": False,
        "parameters": {"truncate": "END"},
    }
    most = RerankRequest(query="q", documents=BOTH, top_n=1, truncation=False, max_chunks_per_doc=3)
    body = json.loads(Pinecone().render_request(most))
    assert (body["top_n"], body["parameters"]) == (1, {"truncate": "NONE", "max_chunks_per_doc": 3})


def test_what_was_ranked_goes_to_an_upstream_whatever_the_client_called_it() -> None:
    request = RerankRequest(query="q", documents=(Document("a", {"chunk_text": "a", "id": 1}),))
    assert json.loads(Pinecone().render_request(request))["documents"] == [{"text": "a"}]


def test_a_real_answer_is_written() -> None:
    response = RerankResponse(
        model="m", results=(Result(1, 0.9, Document("b")), Result(0, 0.1)), usage=Usage(prompt_tokens=12)
    )
    assert json.loads(Pinecone().render_response(response, request_for("a", "b"), CALL)) == {
        "model": "m",
        "data": [{"index": 1, "score": 0.9, "document": {"text": "b"}}, {"index": 0, "score": 0.1}],
        "usage": {"rerank_units": 1},
    }


def test_an_object_comes_back_as_it_was_sent_with_no_field_added() -> None:
    sent = {"id": "vec1", "chunk_text": "a"}
    response = RerankResponse(model="m", results=(Result(0, 0.9, Document("a", sent)),), usage=Usage(prompt_tokens=12))
    body = json.loads(Pinecone().render_response(response, request_for("a"), CALL))
    assert body["data"][0]["document"] == sent


def test_a_unit_is_a_query_with_up_to_100_documents() -> None:
    response = RerankResponse(model="m", results=(), usage=Usage(prompt_tokens=12))
    body = json.loads(Pinecone().render_response(response, request_for(*"a" * 101), CALL))
    assert body["usage"] == {"rerank_units": 2}


def test_a_real_answer_is_read() -> None:
    body = {
        "model": "bge-reranker-v2-m3",
        "data": [
            {"index": 1, "score": 0.9, "document": {"id": "vec2", "text": "b"}},
            {"index": 0, "score": 0.1, "document": None},
        ],
        "usage": {"rerank_units": 1},
    }
    assert read(body) == RerankResponse(
        model="bge-reranker-v2-m3",
        results=(Result(1, 0.9, Document("b", {"id": "vec2", "text": "b"})), Result(0, 0.1)),
        usage=Usage(prompt_tokens=0, estimated=True, search_units=1),
    )


def test_what_an_answer_leaves_out_is_filled_in() -> None:
    empty = RerankResponse(model="asked", results=(), usage=Usage(prompt_tokens=0, estimated=True))
    assert read({"data": []}) == empty


def test_a_document_that_is_a_string_is_not_pinecones() -> None:
    with pytest.raises(UpstreamMalformed):
        read({"data": [{"index": 0, "score": 0.1, "document": "a"}]})


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (BadRequest("No."), 400, "INVALID_ARGUMENT"),
        (Unauthenticated("No."), 401, "UNAUTHENTICATED"),
        (ModelNotFound("No."), 404, "NOT_FOUND"),
        (RateLimited("No."), 429, "RESOURCE_EXHAUSTED"),
        (EngineError("No."), 500, "INTERNAL"),
        (UpstreamError("No."), 502, "UNKNOWN"),
    ],
    ids=str,
)
def test_an_error_has_pinecones_code_and_its_status_in_the_body(error: RerankError, status: int, code: str) -> None:
    found, body = Pinecone().render_error(error, "the-request")
    assert (found, json.loads(body)) == (status, {"error": {"code": code, "message": "No."}, "status": status})


@pytest.mark.parametrize(("status", "kind"), [(400, BadRequest), (401, Unauthenticated), (429, RateLimited)])
def test_a_real_error_is_read(status: int, kind: type[RerankError]) -> None:
    body = json.dumps({"error": {"code": "X", "message": "No.", "details": {}}, "status": status}).encode()
    found = Pinecone().parse_error(status, {}, body)
    assert (type(found), found.message) == (kind, "No.")
