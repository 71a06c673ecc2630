"""POST /rerank, as Text Embeddings Inference speaks it to RAGFlow, Haystack, Dify and llama-index."""

from __future__ import annotations

import json
from typing import Any

import pytest

from rerankd.dialects.tei import Tei
from rerankd.errors import (
    BadRequest,
    ClientError,
    DeadlineExceeded,
    EngineError,
    ModelNotFound,
    Overloaded,
    RateLimited,
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
    return Tei().parse_request(json.dumps({"query": "q", "texts": ["a", "b"], **fields}).encode())


def read(body: object, headers: dict[str, str] | None = None) -> RerankResponse:
    return Tei().parse_response(json.dumps(body).encode(), headers or {}, request_for("a", "b", model="m"))


def test_what_llama_index_sends_is_read_with_the_formats_defaults() -> None:
    assert parsed() == RerankRequest(query="q", documents=AB, truncation=True, return_documents=False, raw_scores=None)


def test_what_ragflow_sends_is_read() -> None:
    assert parsed(raw_scores=False, truncate=True) == RerankRequest(query="q", documents=AB, raw_scores=False)


def test_what_dify_sends_is_read() -> None:
    assert parsed(return_text=True).return_documents


def test_nulls_are_absent_and_no_truncation_is_heard() -> None:
    assert parsed(truncate=None, raw_scores=None, return_text=None) == parsed()
    assert not parsed(truncate=False).truncation


def test_litellms_top_n_and_model_are_passed_over() -> None:
    assert parsed(top_n=1, model="m") == parsed()


@pytest.mark.parametrize("side", ["left", "Left"])
def test_a_cut_at_the_left_is_said_to_be_unread(side: str) -> None:
    assert parsed(truncation_direction=side).unread == ("truncation_direction",)


@pytest.mark.parametrize("side", ["right", "Right", None])
def test_a_cut_at_the_right_is_what_we_do(side: str | None) -> None:
    assert parsed(truncation_direction=side).unread == ()


def test_errors_name_the_formats_own_fields() -> None:
    with pytest.raises(BadRequest) as no_texts:
        parsed(texts=None)
    assert no_texts.value.param == "texts"
    with pytest.raises(BadRequest) as of_nim:
        parsed(truncate="END")
    assert of_nim.value.message == "`truncate` must be true or false, not a string."


def test_a_request_says_whether_to_truncate() -> None:
    body = json.loads(Tei().render_request(RerankRequest(query="q", documents=AB, model="m", top_n=1)))
    assert body == {"query": "q", "texts": ["a", "b"], "truncate": True}


def test_a_real_answer_is_written() -> None:
    results = (Result(1, 0.9, Document("b", {"text": "b", "title": "t"})), Result(0, 0.1, Document("a")))
    response = RerankResponse(model="m", results=results, usage=Usage(prompt_tokens=12))
    assert json.loads(Tei().render_response(response, request_for("a", "b"), CALL)) == [
        {"index": 1, "text": "b", "score": 0.9},
        {"index": 0, "text": "a", "score": 0.1},
    ]


def test_texts_that_nobody_asked_for_are_left_out() -> None:
    response = RerankResponse(model="m", results=(Result(1, 0.9),), usage=Usage(prompt_tokens=12))
    written = json.loads(Tei().render_response(response, request_for("a", "b"), CALL))
    assert written == [{"index": 1, "score": 0.9}]


def test_usage_and_times_stand_in_headers() -> None:
    call = Call("the-request")
    for stage, took in (("parse", 0.5), ("tokenize", 1.75), ("queue", 2.25), ("infer", 30.9)):
        call.notes.took(stage, took)
    request = RerankRequest(query="größe", documents=(Document("ab"), Document("cde")))
    response = RerankResponse(model="m", results=(), usage=Usage(prompt_tokens=12))
    assert Tei().response_headers(response, request, call) == {
        "x-compute-type": "gpu+optimized",
        "x-compute-time": "35",
        "x-compute-characters": "15",
        "x-compute-tokens": "12",
        "x-total-time": "35",
        "x-tokenization-time": "1",
        "x-queue-time": "2",
        "x-inference-time": "30",
    }


def test_stages_that_nobody_timed_took_no_time() -> None:
    headers = Tei().response_headers(
        RerankResponse(model="m", results=(), usage=Usage(prompt_tokens=0)), request_for("a"), CALL
    )
    assert {headers[name] for name in headers if name.endswith("-time")} == {"0"}


def test_a_real_answer_is_read_in_its_own_order() -> None:
    answer = read([{"index": 1, "text": "b", "score": 0.9}, {"index": 0, "score": 0.9}], {"x-compute-tokens": "12"})
    assert answer == RerankResponse(
        model="m", results=(Result(1, 0.9, Document("b")), Result(0, 0.9)), usage=Usage(prompt_tokens=12)
    )


@pytest.mark.parametrize("tokens", ["", "many", "-3", "1.5", "9" * 99])
def test_tokens_that_nobody_can_read_are_estimated(tokens: str) -> None:
    assert read([], {"x-compute-tokens": tokens}).usage == Usage(prompt_tokens=0, estimated=True)


@pytest.mark.parametrize(
    ("error", "status", "kind"),
    [
        (BadRequest("No."), 422, "Validation"),
        (TooLarge("No."), 413, "Validation"),
        (ModelNotFound("No."), 404, "Validation"),
        (RateLimited("No."), 429, "Overloaded"),
        (Overloaded("No."), 429, "Overloaded"),
        (EngineError("No."), 424, "Backend"),
        (UpstreamError("No."), 424, "Backend"),
        (DeadlineExceeded("No."), 504, "Backend"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, RerankError) else str(value),
)
def test_an_error_has_the_formats_shape_and_status(error: RerankError, status: int, kind: str) -> None:
    found, body = Tei().render_error(error, "the-request")
    assert (found, json.loads(body)) == (status, {"error": "No.", "error_type": kind})


def test_a_wrong_key_is_answered_by_nothing() -> None:
    assert Tei().render_error(Unauthenticated("No."), "the-request") == (401, b"")
    assert isinstance(Tei().parse_error(401, {}, b""), Unauthenticated)


@pytest.mark.parametrize(
    ("status", "kind", "meant"),
    [
        (422, "Validation", BadRequest),
        (422, "Tokenizer", BadRequest),
        (400, "Empty", BadRequest),
        (413, "Validation", TooLarge),
        (429, "Overloaded", RateLimited),
        (503, "Unhealthy", Overloaded),
        (424, "Backend", UpstreamError),
    ],
)
def test_a_real_error_is_read(status: int, kind: str, meant: type[RerankError]) -> None:
    error = Tei().parse_error(status, {}, json.dumps({"error": "It says why.", "error_type": kind}).encode())
    assert (type(error), error.message) == (meant, "It says why.")


def test_a_failed_backend_is_no_fault_of_the_client_even_without_a_body() -> None:
    assert not isinstance(Tei().parse_error(424, {}, b""), ClientError)
