"""POST /api/v1/services/rerank/text-rerank/text-rerank, as the `dashscope` SDK sends and reads it."""

from __future__ import annotations

import json
from typing import Any

import pytest

from rerankd.dialects.dashscope import DashScope
from rerankd.errors import (
    BadRequest,
    EngineError,
    Forbidden,
    ModelNotFound,
    NotFound,
    Overloaded,
    RateLimited,
    RerankError,
    TooLarge,
    Unauthenticated,
    UpstreamError,
    UpstreamMalformed,
)
from rerankd.types import Call, Document, RerankRequest, RerankResponse, Result, Usage
from tests.conftest import request_for

CALL = Call("the-request")
BOTH = (Document("a"), Document("b"))
INPUT = {"query": "q", "documents": ["a", "b"]}


def parsed(**fields: Any) -> RerankRequest:
    return DashScope().parse_request(json.dumps({"model": "m", "input": INPUT, **fields}).encode())


def read(body: object, headers: dict[str, str] | None = None) -> RerankResponse:
    return DashScope().parse_response(json.dumps(body).encode(), headers or {}, request_for("a", "b", model="asked"))


def test_the_sdks_least_request_is_read() -> None:
    assert parsed(parameters={}) == RerankRequest(query="q", documents=BOTH, model="m")


def test_every_field_is_read() -> None:
    options = {"top_n": 1, "return_documents": True, "instruct": "i"}
    assert parsed(parameters=options) == RerankRequest(
        query="q", documents=BOTH, model="m", top_n=1, return_documents=True, instruction="i"
    )


def test_nulls_are_absent_at_every_level() -> None:
    options = {"top_n": None, "return_documents": None, "instruct": None}
    for parameters in (options, None):
        assert parsed(parameters=parameters) == RerankRequest(query="q", documents=BOTH, model="m")


def test_query_and_documents_may_be_objects() -> None:
    found = parsed(input={"query": {"text": "q"}, "documents": [{"text": "a"}, "b"]})
    assert (found.query, found.documents) == ("q", BOTH)


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"input": None}, "input.query"),
        ({"input": {"query": "", "documents": ["a"]}}, "input.query"),
        ({"input": {"query": {"image": "u"}, "documents": ["a"]}}, "input.query"),
        ({"input": {"query": "q"}}, "input.documents"),
        ({"input": {"query": "q", "documents": ["a", {"video": "u"}]}}, "input.documents[1]"),
        ({"input": {"query": "q", "documents": ["a", 7]}}, "input.documents[1]"),
        ({"input": ["a"]}, "input"),
        ({"parameters": {"top_n": -1}}, "parameters.top_n"),
        ({"parameters": {"top_n": "one"}}, "parameters.top_n"),
        ({"parameters": 7}, "parameters"),
    ],
)
def test_the_fault_is_named_with_its_whole_path(fields: dict[str, Any], param: str) -> None:
    with pytest.raises(BadRequest) as caught:
        parsed(**fields)
    assert caught.value.param == param


def test_what_input_must_be_is_said_as_it_is_here() -> None:
    with pytest.raises(BadRequest, match="`input` must be an object with `query` and `documents`, not a list"):
        parsed(input=["a"])


def test_a_request_to_an_upstream_always_has_parameters() -> None:
    least = json.loads(DashScope().render_request(request_for("a", "b", model="m")))
    assert least == {"model": "m", "input": INPUT, "parameters": {}}
    most = RerankRequest(query="q", documents=BOTH, model="m", top_n=1, return_documents=True, instruction="i")
    assert json.loads(DashScope().render_request(most))["parameters"] == {
        "top_n": 1,
        "return_documents": True,
        "instruct": "i",
    }


def test_a_real_answer_is_written() -> None:
    results = (Result(1, 0.9, Document("b")), Result(0, 0.1, None))
    response = RerankResponse(model="m", results=results, usage=Usage(prompt_tokens=12))
    assert json.loads(DashScope().render_response(response, request_for("a", "b"), CALL)) == {
        "output": {
            "results": [
                {"index": 1, "relevance_score": 0.9, "document": {"text": "b"}},
                {"index": 0, "relevance_score": 0.1},
            ]
        },
        "usage": {"total_tokens": 12},
        "request_id": "the-request",
    }


def test_a_real_answer_is_read() -> None:
    body = {
        "status_code": 200,
        "request_id": "85ba5752",
        "code": "",
        "message": "",
        "output": {"results": [{"index": 1, "relevance_score": 0.9, "document": {"text": "b"}}]},
        "usage": {"total_tokens": 79},
    }
    assert read(body) == RerankResponse(
        model="asked", results=(Result(1, 0.9, Document("b")),), usage=Usage(prompt_tokens=79)
    )


def test_an_answer_without_usage_is_estimated() -> None:
    assert read({"output": {"results": []}}).usage == Usage(prompt_tokens=0, estimated=True)


def test_an_answer_without_output_is_malformed() -> None:
    with pytest.raises(UpstreamMalformed):
        read({"request_id": "85ba5752"})


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        ("InvalidParameter", BadRequest),
        ("InvalidParameter.DataInspection", BadRequest),
        ("InvalidApiKey", Unauthenticated),
        ("Throttling.RateQuota", RateLimited),
        ("ModelNotFound", NotFound),
        ("Something", UpstreamError),
    ],
)
def test_an_answer_with_a_code_is_an_error_in_spite_of_its_status(code: str, kind: type[RerankError]) -> None:
    with pytest.raises(RerankError, match="Because") as caught:
        read({"code": code, "message": "Because.", "request_id": "r"}, {"retry-after": "2"})
    assert (type(caught.value), caught.value.retry_after) == (kind, 2.0)


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (BadRequest("No."), 400, "InvalidParameter"),
        (Unauthenticated("No."), 401, "InvalidApiKey"),
        (Forbidden("No."), 403, "AccessDenied"),
        (ModelNotFound("No."), 404, "ModelNotFound"),
        (NotFound("No."), 404, "InvalidURL"),
        (TooLarge("No."), 413, "BadRequest.TooLarge"),
        (RateLimited("No."), 429, "Throttling.RateQuota"),
        (EngineError("No."), 500, "InternalError"),
        (Overloaded("No."), 503, "ModelServingError"),
    ],
    ids=lambda value: str(value),
)
def test_an_error_has_dashscopes_code(error: RerankError, status: int, code: str) -> None:
    found, body = DashScope().render_error(error, "the-request")
    assert (found, json.loads(body)) == (status, {"code": code, "message": "No.", "request_id": "the-request"})


@pytest.mark.parametrize(
    ("status", "code", "kind"),
    [
        (400, "InvalidParameter", BadRequest),
        (400, "Arrearage", Forbidden),
        (401, "InvalidApiKey", Unauthenticated),
        (400, "Throttling.AllocationQuota", RateLimited),
        (429, "Throttling", RateLimited),
        (500, "InternalError.Algo", UpstreamError),
        (503, "ModelUnavailable", Overloaded),
    ],
)
def test_a_real_error_is_read(status: int, code: str, kind: type[RerankError]) -> None:
    body = json.dumps({"code": code, "message": "Because.", "request_id": "r"}).encode()
    found = DashScope().parse_error(status, {}, body)
    assert (type(found), found.message) == (kind, "Because.")


def test_an_error_without_a_message_says_its_code() -> None:
    assert DashScope().parse_error(400, {}, b'{"code": "InvalidURL"}').message == "InvalidURL"
