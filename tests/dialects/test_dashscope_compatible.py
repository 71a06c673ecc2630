"""POST /compatible-api/v1/reranks, as litellm and curl send it."""

from __future__ import annotations

import json
from typing import Any

import pytest

from rerankd.dialects.dashscope_compatible import DashScopeCompatible
from rerankd.errors import BadRequest, EngineError, NotFound, RateLimited, RerankError, Unauthenticated
from rerankd.types import Call, Document, RerankRequest, RerankResponse, Result, Usage
from tests.conftest import request_for

CALL = Call("the-request")
BOTH = (Document("a"), Document("b"))


def parsed(**fields: Any) -> RerankRequest:
    return DashScopeCompatible().parse_request(json.dumps({"query": "q", "documents": ["a", "b"], **fields}).encode())


def read(body: object) -> RerankResponse:
    return DashScopeCompatible().parse_response(json.dumps(body).encode(), {}, request_for("a", "b", model="asked"))


def test_a_real_request_is_read() -> None:
    found = parsed(model="qwen3-rerank", top_n=2, instruct="i")
    assert found == RerankRequest(query="q", documents=BOTH, model="qwen3-rerank", top_n=2, instruction="i")


def test_litellms_request_is_read() -> None:
    assert parsed(model="m", top_n=None, return_documents=True).return_documents


def test_documents_stay_away_unless_asked_for() -> None:
    assert not parsed(return_documents=None).return_documents


def test_a_request_to_an_upstream_says_only_what_was_asked() -> None:
    least = json.loads(DashScopeCompatible().render_request(request_for("a", "b", model="m")))
    assert least == {"model": "m", "query": "q", "documents": ["a", "b"]}
    most = RerankRequest(query="q", documents=BOTH, top_n=1, return_documents=True, instruction="i")
    body = json.loads(DashScopeCompatible().render_request(most))
    assert (body["top_n"], body["return_documents"], body["instruct"]) == (1, True, "i")


def test_a_real_answer_is_written() -> None:
    results = (Result(1, 0.9, Document("b")), Result(0, 0.1))
    response = RerankResponse(model="m", results=results, usage=Usage(prompt_tokens=12))
    assert json.loads(DashScopeCompatible().render_response(response, request_for("a", "b"), CALL)) == {
        "id": "the-request",
        "object": "list",
        "model": "m",
        "results": [
            {"index": 1, "relevance_score": 0.9, "document": {"text": "b"}},
            {"index": 0, "relevance_score": 0.1},
        ],
        "usage": {"total_tokens": 12},
    }


def test_a_real_answer_is_read() -> None:
    body = {
        "object": "list",
        "results": [{"index": 0, "relevance_score": 0.93, "document": {"text": "a"}}],
        "model": "qwen3-rerank",
        "usage": {"total_tokens": 79},
        "id": "85ba5752",
    }
    assert read(body) == RerankResponse(
        model="qwen3-rerank", results=(Result(0, 0.93, Document("a")),), usage=Usage(prompt_tokens=79)
    )


def test_what_an_answer_leaves_out_is_filled_in() -> None:
    assert read({"results": []}) == RerankResponse(
        model="asked", results=(), usage=Usage(prompt_tokens=0, estimated=True)
    )


@pytest.mark.parametrize(
    ("error", "status", "kind", "code", "param"),
    [
        (BadRequest("No.", param="top_n"), 400, "invalid_request_error", "invalid_request", "top_n"),
        (Unauthenticated("No."), 401, "authentication_error", "invalid_api_key", None),
        (EngineError("No."), 500, "server_error", "engine_error", None),
    ],
    ids=str,
)
def test_an_error_is_openais(error: RerankError, status: int, kind: str, code: str, param: str | None) -> None:
    found, body = DashScopeCompatible().render_error(error, "the-request")
    detail = {"message": "No.", "type": kind, "param": param, "code": code}
    assert (found, json.loads(body)) == (status, {"error": detail, "request_id": "the-request"})


@pytest.mark.parametrize(
    ("status", "body", "kind"),
    [
        (401, {"error": {"message": "No.", "type": "x", "param": None, "code": "invalid_api_key"}}, Unauthenticated),
        (404, {"error": {"message": "No.", "type": "x", "param": None, "code": "model_not_found"}}, NotFound),
        (429, {"code": "Throttling.RateQuota", "message": "No.", "request_id": "r"}, RateLimited),
    ],
)
def test_a_real_error_is_read(status: int, body: object, kind: type[RerankError]) -> None:
    found = DashScopeCompatible().parse_error(status, {}, json.dumps(body).encode())
    assert (type(found), found.message) == (kind, "No.")
