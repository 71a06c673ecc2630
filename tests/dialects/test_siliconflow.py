"""POST /v1/rerank, as SiliconFlow's clients send it and its servers answer."""

from __future__ import annotations

import json
from typing import Any

import pytest

from rerankd.dialects.siliconflow import SiliconFlow
from rerankd.errors import (
    BadRequest,
    EngineError,
    Forbidden,
    ModelNotFound,
    Overloaded,
    RateLimited,
    TooLarge,
    Unauthenticated,
)
from rerankd.types import Call, Document, RerankRequest, RerankResponse, Result, Usage
from tests.conftest import request_for

CALL = Call("the-request")
BOTH = (Document("a"), Document("b"))


def parsed(**fields: Any) -> RerankRequest:
    return SiliconFlow().parse_request(json.dumps({"query": "q", "documents": ["a", "b"], **fields}).encode())


def read(body: object) -> RerankResponse:
    return SiliconFlow().parse_response(json.dumps(body).encode(), {}, request_for("a", "b", model="asked"))


def test_llama_indexs_request_is_read() -> None:
    found = parsed(model="m", top_n=4, return_documents=True, max_chunks_per_doc=1024, overlap_tokens=80)
    assert found == RerankRequest(
        query="q",
        documents=BOTH,
        model="m",
        top_n=4,
        return_documents=True,
        max_chunks_per_doc=1024,
        overlap_tokens=80,
    )


def test_qwens_instruction_is_read_and_an_empty_one_is_none() -> None:
    instruction = "Please rerank the documents based on the query."
    assert parsed(instruction=instruction).instruction == instruction
    assert parsed(instruction="").instruction is None


def test_documents_stay_away_unless_they_are_asked_for() -> None:
    assert parsed().return_documents is False


@pytest.mark.parametrize("overlap", [81, 8192])
def test_more_overlap_than_siliconflow_takes_is_taken(overlap: int) -> None:
    assert parsed(overlap_tokens=overlap).overlap_tokens == overlap


def test_an_overlap_beyond_all_reason_is_named() -> None:
    with pytest.raises(BadRequest) as caught:
        parsed(overlap_tokens=8193)
    assert caught.value.param == "overlap_tokens"


def test_an_empty_query_is_refused_with_an_error_that_ragflow_can_tell_from_an_answer() -> None:
    with pytest.raises(BadRequest) as caught:
        parsed(query="")
    status, body = SiliconFlow().render_error(caught.value, "the-request")
    assert status == 400
    assert json.loads(body)["message"] == "`query` is empty; it must be a non-empty string."


def test_a_request_to_an_upstream_says_only_what_was_asked() -> None:
    request = RerankRequest(query="q", documents=BOTH, model="m", instruction="i", overlap_tokens=0)
    body = json.loads(SiliconFlow().render_request(request))
    assert body == {"model": "m", "query": "q", "documents": ["a", "b"], "instruction": "i", "overlap_tokens": 0}


def test_a_real_answer_is_written() -> None:
    response = RerankResponse(model="m", results=(Result(1, 0.9, Document("b")),), usage=Usage(prompt_tokens=12))
    assert json.loads(SiliconFlow().render_response(response, request_for("a", "b"), CALL)) == {
        "id": "the-request",
        "results": [{"document": {"text": "b"}, "index": 1, "relevance_score": 0.9}],
        "meta": {
            "billed_units": {"input_tokens": 12, "output_tokens": 0, "search_units": 0, "classifications": 0},
            "tokens": {"input_tokens": 12, "output_tokens": 0},
        },
    }


def test_the_trace_id_is_the_requests() -> None:
    response = RerankResponse(model="m", results=(), usage=Usage(prompt_tokens=0))
    assert SiliconFlow().response_headers(response, request_for(), CALL) == {"x-siliconcloud-trace-id": "the-request"}


META = {
    "billed_units": {"input_tokens": 12, "output_tokens": 0, "search_units": 0, "classifications": 0},
    "tokens": {"input_tokens": 12, "output_tokens": 0},
}


@pytest.mark.parametrize(
    "counts",
    [
        {"meta": META},
        {"meta": {"billed_units": META["billed_units"]}},
        {"meta": {"tokens": {"input_tokens": 12}}},
        {"tokens": {"input_tokens": 12, "output_tokens": 0}},
        {"meta": None, "tokens": {"input_tokens": 12, "output_tokens": 0}},
        {"meta": {"billed_units": None, "tokens": None}, "tokens": {"input_tokens": 12}},
        {"meta": META, "tokens": {"input_tokens": 12, "output_tokens": 0}},
    ],
)
def test_tokens_are_found_wherever_they_are_counted(counts: dict[str, Any]) -> None:
    results = [
        {"document": {"text": "b"}, "index": 1, "relevance_score": 0.9},
        {"document": None, "index": 0, "relevance_score": 0.1},
    ]
    answer = read({"id": "0196", "results": results, **counts})
    assert answer.results == (Result(1, 0.9, Document("b")), Result(0, 0.1))
    assert (answer.model, answer.usage) == ("asked", Usage(prompt_tokens=12))


@pytest.mark.parametrize("counts", [{}, {"meta": None, "tokens": None}, {"meta": {}}, {"tokens": {}}])
def test_tokens_that_nobody_counted_are_estimated(counts: dict[str, Any]) -> None:
    answer = read({"results": [{"index": 0, "relevance_score": 0.9}], **counts})
    assert answer.usage == Usage(prompt_tokens=0, estimated=True)


@pytest.mark.parametrize(
    ("error", "status", "body"),
    [
        (BadRequest("No."), 400, {"code": 20015, "message": "No.", "data": None}),
        (TooLarge("No."), 413, {"code": 20015, "message": "No.", "data": None}),
        (Unauthenticated("No."), 401, "No."),
        (Forbidden("No."), 403, {"code": 20015, "message": "No.", "data": None}),
        (ModelNotFound("No."), 404, {"code": 20012, "message": "No.", "data": None}),
        (RateLimited("No."), 429, {"message": "No.", "data": None}),
        (EngineError("No."), 500, {"code": 50507, "message": "No.", "data": None}),
        (Overloaded("No."), 503, {"code": 50505, "message": "No.", "data": None}),
    ],
)
def test_an_error_has_siliconflows_code(error: Exception, status: int, body: object) -> None:
    found, written = SiliconFlow().render_error(error, "the-request")  # type: ignore[arg-type]
    assert (found, json.loads(written)) == (status, body)


@pytest.mark.parametrize(
    ("status", "body", "kind", "message"),
    [
        (
            400,
            b'{"code":20012,"message":"Model does not exist. Please check it carefully.","data":null}',
            BadRequest,
            "Model does not exist. Please check it carefully.",
        ),
        (401, b'"Invalid token"', Unauthenticated, "Invalid token"),
        (429, b'{"message":"TPM limit reached.","data":""}', RateLimited, "TPM limit reached."),
        (
            503,
            b'{"code":50505,"message":"Model service overloaded.","data":null}',
            Overloaded,
            "Model service overloaded.",
        ),
    ],
)
def test_its_errors_are_read(status: int, body: bytes, kind: type[Exception], message: str) -> None:
    error = SiliconFlow().parse_error(status, {}, body)
    assert (type(error), error.message) == (kind, message)
