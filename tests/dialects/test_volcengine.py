"""POST /api/knowledge/service/rerank, as VikingDB answers it."""

from __future__ import annotations

import json

import pytest

from rerankd.dialects.volcengine import Volcengine
from rerankd.errors import (
    BadRequest,
    Forbidden,
    Overloaded,
    RateLimited,
    RerankError,
    Unauthenticated,
    UpstreamError,
    UpstreamMalformed,
)
from rerankd.types import RerankRequest, RerankResponse, Result, Usage
from tests.conftest import request_for

ASKED = request_for("a", "b", model="m")


def read(body: object, headers: dict[str, str] | None = None) -> RerankResponse:
    return Volcengine().parse_response(json.dumps(body).encode(), headers or {}, ASKED)


def test_the_query_stands_beside_each_document() -> None:
    assert json.loads(Volcengine().render_request(ASKED)) == {
        "rerank_model": "m",
        "datas": [{"query": "q", "content": "a"}, {"query": "q", "content": "b"}],
    }


def test_what_was_not_asked_for_is_left_to_the_server() -> None:
    assert set(json.loads(Volcengine().render_request(request_for("a")))) == {"datas"}


def test_an_instruction_goes_along() -> None:
    request = RerankRequest(query="q", documents=ASKED.documents, instruction="i")
    assert json.loads(Volcengine().render_request(request))["rerank_instruction"] == "i"


def test_scores_are_in_the_order_of_the_request() -> None:
    body = {"code": 0, "message": "success", "request_id": "r", "data": {"scores": [0.1, 0.9], "token_usage": 12}}
    results = (Result(0, 0.1), Result(1, 0.9))
    assert read(body) == RerankResponse(model="m", results=results, usage=Usage(prompt_tokens=12))


def test_tokens_that_nobody_counted_are_estimated() -> None:
    assert read({"code": 0, "data": {"scores": []}}).usage == Usage(prompt_tokens=0, estimated=True)


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (300004, RateLimited),
        (1000001, Unauthenticated),
        (1000002, BadRequest),
        (1000003, BadRequest),
        (1000028, Overloaded),
        (1000030, UpstreamError),
        (1, UpstreamError),
    ],
)
def test_a_code_that_is_not_0_is_an_error_whatever_the_status(code: int, kind: type[RerankError]) -> None:
    body = {"code": code, "message": "Because.", "request_id": "r", "data": None}
    with pytest.raises(RerankError, match="Because") as caught:
        read(body, {"retry-after": "2"})
    assert (type(caught.value), caught.value.retry_after) == (kind, 2.0)


@pytest.mark.parametrize(
    "body",
    [
        {"code": 0},
        {"code": 0, "data": None},
        {"code": "0", "data": {"scores": []}},
        {"code": 0, "data": {"scores": ["0.1"]}},
        {"code": 0, "data": {}},
    ],
)
def test_what_is_no_answer_is_malformed(body: object) -> None:
    with pytest.raises(UpstreamMalformed):
        read(body)


@pytest.mark.parametrize(
    ("status", "body", "kind"),
    [
        (429, {"code": 300004, "message": "No."}, RateLimited),
        (403, {"code": 1000001, "message": "No."}, Unauthenticated),
        (403, {"code": 1, "message": "No."}, Forbidden),
        (500, {"code": 1000030, "message": "No."}, UpstreamError),
        (400, {"message": "No."}, BadRequest),
    ],
)
def test_an_errors_code_says_more_than_its_status(status: int, body: object, kind: type[RerankError]) -> None:
    found = Volcengine().parse_error(status, {}, json.dumps(body).encode())
    assert (type(found), found.message) == (kind, "No.")
