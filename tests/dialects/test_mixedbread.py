"""POST /v1/reranking, as `mixedbread.Mixedbread` and the AI SDK's provider send and read it."""

from __future__ import annotations

import json
from typing import Any

import pytest

from rerankd.dialects.mixedbread import Mixedbread
from rerankd.errors import BadRequest, EngineError, RateLimited, RerankError, Unauthenticated
from rerankd.types import Call, Document, RerankRequest, RerankResponse, Result, Usage
from tests.conftest import request_for

CALL = Call("the-request")
BOTH = (Document("a"), Document("b"))


def parsed(**fields: Any) -> RerankRequest:
    return Mixedbread().parse_request(json.dumps({"query": "q", "input": ["a", "b"], **fields}).encode())


def read(body: object) -> RerankResponse:
    return Mixedbread().parse_response(json.dumps(body).encode(), {}, request_for("a", "b", model="asked"))


def test_the_sdks_request_is_read() -> None:
    found = parsed(model="m", top_k=1, return_input=True)
    assert found == RerankRequest(query="q", documents=BOTH, model="m", top_n=1, return_documents=True)


def test_nothing_comes_back_and_nothing_is_cut_unless_it_is_asked_for() -> None:
    assert parsed() == RerankRequest(query="q", documents=BOTH)


def test_rank_fields_say_what_of_an_object_is_ranked() -> None:
    found = parsed(input=[{"title": "t", "text": "a", "year": 3}], rank_fields=["title", "year"])
    assert found.documents == (Document("title: t\nyear: 3", {"title": "t", "text": "a", "year": 3}),)


@pytest.mark.parametrize(("said", "unread"), [(True, ("rewrite_query",)), (False, ()), (None, ())])
def test_a_query_is_never_rewritten(said: bool | None, unread: tuple[str, ...]) -> None:
    assert parsed(rewrite_query=said).unread == unread


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"input": []}, "input"),
        ({"input": ["a", {"title": "t"}]}, "input[1]"),
        ({"top_k": -1}, "top_k"),
        ({"return_input": "maybe"}, "return_input"),
        ({"rewrite_query": "maybe"}, "rewrite_query"),
    ],
)
def test_the_fault_is_named_as_the_client_knows_it(fields: dict[str, Any], param: str) -> None:
    with pytest.raises(BadRequest) as caught:
        parsed(**fields)
    assert caught.value.param == param


def test_a_request_to_an_upstream_says_how_many_it_wants_since_its_default_may_be_fewer() -> None:
    body = {"model": "m", "query": "q", "input": ["a", "b"], "top_k": 2, "return_input": False}
    assert json.loads(Mixedbread().render_request(request_for("a", "b", model="m"))) == body
    some = request_for("a", "b", top_n=1, return_documents=True)
    assert json.loads(Mixedbread().render_request(some))["top_k"] == 1


def test_a_real_answer_is_written() -> None:
    response = RerankResponse(model="m", results=(Result(1, 0.9, Document("b")),), usage=Usage(prompt_tokens=12))
    asked = request_for("a", "b", top_n=1, return_documents=True)
    assert json.loads(Mixedbread().render_response(response, asked, CALL)) == {
        "usage": {"prompt_tokens": 12, "total_tokens": 12},
        "model": "m",
        "data": [{"index": 1, "score": 0.9, "input": "b", "object": "rank_result"}],
        "object": "list",
        "top_k": 1,
        "return_input": True,
    }


def test_an_object_comes_back_as_it_was_sent_and_what_was_not_asked_for_is_absent() -> None:
    results = (Result(0, 0.9, Document("t", {"title": "t"})), Result(1, 0.1))
    response = RerankResponse(model="m", results=results, usage=Usage(prompt_tokens=12))
    body = json.loads(Mixedbread().render_response(response, request_for("t", "b"), CALL))
    assert body["data"][0]["input"] == {"title": "t"}
    assert "input" not in body["data"][1]
    assert (body["top_k"], body["return_input"]) == (2, False)


def test_a_real_answer_is_read() -> None:
    body = {
        "usage": {"prompt_tokens": 453, "total_tokens": 1276, "completion_tokens": 823},
        "model": "mixedbread-ai/mxbai-rerank-large-v2",
        "data": [
            {"index": 1, "score": 0.9876, "input": "b", "object": "rank_result"},
            {"index": 0, "score": 0.8765, "input": None, "object": "text_document"},
        ],
        "object": "list",
        "top_k": 3,
        "return_input": False,
    }
    assert read(body) == RerankResponse(
        model="mixedbread-ai/mxbai-rerank-large-v2",
        results=(Result(1, 0.9876, Document("b")), Result(0, 0.8765)),
        usage=Usage(prompt_tokens=453),
    )


def test_what_an_answer_leaves_out_is_filled_in() -> None:
    empty = RerankResponse(model="asked", results=(), usage=Usage(prompt_tokens=0, estimated=True))
    assert read({"data": []}) == empty


@pytest.mark.parametrize(
    ("error", "status", "kind", "code", "param"),
    [
        (BadRequest("No.", param="top_k"), 400, "invalid_request_error", "invalid_request", "top_k"),
        (EngineError("No."), 500, "server_error", "engine_error", None),
    ],
    ids=str,
)
def test_an_error_has_the_parts_that_clients_demand(
    error: RerankError, status: int, kind: str, code: str, param: str | None
) -> None:
    found, body = Mixedbread().render_error(error, "the-request")
    detail = {"message": "No.", "type": kind, "param": param, "code": code}
    assert (found, json.loads(body)) == (status, {"error": detail})


@pytest.mark.parametrize(
    ("status", "body", "kind"),
    [
        (401, {"error": {"code": None, "message": "No.", "param": None, "type": "x"}}, Unauthenticated),
        (422, {"detail": [{"loc": ["body", "input"], "msg": "Field required"}]}, BadRequest),
        (429, {"message": "No."}, RateLimited),
    ],
)
def test_a_real_error_is_read(status: int, body: object, kind: type[RerankError]) -> None:
    found = Mixedbread().parse_error(status, {}, json.dumps(body).encode())
    assert (type(found), found.message) == (kind, "body.input: Field required" if status == 422 else "No.")
