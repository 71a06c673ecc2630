"""POST /v1/rerank, as llama.cpp's server speaks it."""

from __future__ import annotations

import json
from typing import Any

import pytest

from rerankd.dialects.llamacpp import Llamacpp
from rerankd.errors import (
    BadRequest,
    EngineError,
    Forbidden,
    ModelNotFound,
    Overloaded,
    RerankError,
    TooLarge,
    Unauthenticated,
    UpstreamError,
)
from rerankd.types import Call, Document, RerankRequest, RerankResponse, Result, Usage
from tests.conftest import request_for

AB = (Document("a"), Document("b"))
CALL = Call("the-request")


def parsed(**fields: Any) -> RerankRequest:
    return Llamacpp().parse_request(json.dumps({"query": "q", "documents": ["a", "b"], **fields}).encode())


def test_a_real_request_asks_for_logits_and_for_no_cut() -> None:
    wanted = RerankRequest(query="q", documents=AB, model="m", top_n=1, raw_scores=True, truncation=False)
    assert parsed(model="m", top_n=1) == wanted


def test_documents_never_come_back() -> None:
    assert not parsed(return_documents=True).return_documents
    response = RerankResponse(model="m", results=(Result(1, 3.1, Document("b")),), usage=Usage(prompt_tokens=12))
    body = json.loads(Llamacpp().render_response(response, request_for("a", "b"), CALL))
    assert body["results"] == [{"index": 1, "relevance_score": 3.1}]


def test_the_texts_of_its_other_format_are_not_taken_for_documents() -> None:
    with pytest.raises(BadRequest) as caught:
        parsed(documents=None, texts=["a"])
    assert caught.value.param == "documents"


def test_a_request_is_written() -> None:
    body = json.loads(Llamacpp().render_request(RerankRequest(query="q", documents=AB, model="m", top_n=1)))
    assert body == {"model": "m", "query": "q", "documents": ["a", "b"], "top_n": 1}


def test_a_real_answer_is_written() -> None:
    response = RerankResponse(model="m", results=(Result(1, 3.1), Result(0, -7.2)), usage=Usage(prompt_tokens=12))
    assert json.loads(Llamacpp().render_response(response, request_for("a", "b"), CALL)) == {
        "model": "m",
        "object": "list",
        "usage": {"prompt_tokens": 12, "total_tokens": 12},
        "results": [{"index": 1, "relevance_score": 3.1}, {"index": 0, "relevance_score": -7.2}],
    }


def test_an_older_servers_answer_is_read_unsorted_as_it_is() -> None:
    body = {
        "model": "gpt-3.5-turbo",
        "object": "list",
        "usage": {"prompt_tokens": 12, "total_tokens": 12},
        "results": [{"index": 0, "relevance_score": -7.2}, {"index": 1, "relevance_score": 3.1}],
    }
    answer = Llamacpp().parse_response(json.dumps(body).encode(), {}, request_for("a", "b"))
    assert answer == RerankResponse(
        model="gpt-3.5-turbo", results=(Result(0, -7.2), Result(1, 3.1)), usage=Usage(prompt_tokens=12)
    )


def test_an_answer_may_hold_nothing_but_results() -> None:
    answer = Llamacpp().parse_response(b'{"results":[]}', {}, request_for("a", model="asked"))
    assert answer == RerankResponse(model="asked", results=(), usage=Usage(prompt_tokens=0, estimated=True))


@pytest.mark.parametrize(
    ("error", "status", "kind"),
    [
        (BadRequest("No."), 400, "invalid_request_error"),
        (TooLarge("No."), 413, "invalid_request_error"),
        (Unauthenticated("No."), 401, "authentication_error"),
        (Forbidden("No."), 403, "permission_error"),
        (ModelNotFound("No."), 404, "not_found_error"),
        (Overloaded("No."), 503, "unavailable_error"),
        (EngineError("No."), 500, "server_error"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, RerankError) else str(value),
)
def test_an_error_has_the_formats_shape(error: RerankError, status: int, kind: str) -> None:
    found, body = Llamacpp().render_error(error, "the-request")
    assert (found, json.loads(body)) == (status, {"error": {"code": status, "message": "No.", "type": kind}})


def error_of(code: int, message: str, kind: str) -> RerankError:
    body = {"error": {"code": code, "message": message, "type": kind}}
    return Llamacpp().parse_error(code, {}, json.dumps(body).encode())


def test_a_500_about_a_long_text_is_the_clients_fault() -> None:
    message = "input is too large to process. increase the physical batch size"
    error = error_of(500, message, "server_error")
    assert (type(error), error.message) == (TooLarge, message)


@pytest.mark.parametrize(
    ("code", "message", "kind", "meant"),
    [
        (500, "Compute error.", "server_error", UpstreamError),
        (501, "This server does not support reranking.", "not_supported_error", UpstreamError),
        (503, "Loading model", "unavailable_error", Overloaded),
        (400, '"documents" must be provided', "invalid_request_error", BadRequest),
        (401, "Invalid API Key", "authentication_error", Unauthenticated),
    ],
)
def test_the_real_servers_errors_are_read(code: int, message: str, kind: str, meant: type[RerankError]) -> None:
    error = error_of(code, message, kind)
    assert (type(error), error.message) == (meant, message)
