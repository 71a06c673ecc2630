"""POST /v1/rerank, as vLLM's clients speak it: vllm-haystack, litellm's `hosted_vllm/`, Dify."""

from __future__ import annotations

import json
from typing import Any

import pytest

from rerankd.dialects.vllm import Vllm
from rerankd.errors import (
    BadRequest,
    DeadlineExceeded,
    EngineError,
    ModelNotFound,
    Overloaded,
    RerankError,
    Unauthenticated,
)
from rerankd.types import Call, Document, RerankRequest, RerankResponse, Result, Usage
from tests.conftest import request_for

AB = (Document("a"), Document("b"))
CALL = Call("the-request", created=1_700_000_000)


def parsed(**fields: Any) -> RerankRequest:
    return Vllm().parse_request(json.dumps({"query": "q", "documents": ["a", "b"], **fields}).encode())


def rendered(**fields: Any) -> dict[str, Any]:
    body: dict[str, Any] = json.loads(Vllm().render_request(RerankRequest(query="q", documents=AB, **fields)))
    return body


def read(body: object) -> RerankResponse:
    return Vllm().parse_response(json.dumps(body).encode(), {}, request_for("a", "b", model="asked"))


def test_what_haystack_sends_is_read_with_the_formats_defaults() -> None:
    assert parsed(model="m") == RerankRequest(
        query="q", documents=AB, model="m", top_n=None, return_documents=True, truncation=False, raw_scores=None
    )


def test_dify_sends_documents_as_parts_of_content() -> None:
    assert parsed(documents=[{"content": [{"type": "text", "text": "a"}]}, "b"]).documents[0].text == "a"


def test_documents_come_back_even_where_nobody_wants_them() -> None:
    assert parsed(return_documents=False).return_documents


@pytest.mark.parametrize(("top_n", "meant"), [(0, None), (None, None), (1, 1), (9, 9)])
def test_top_n_0_means_all(top_n: int | None, meant: int | None) -> None:
    assert parsed(top_n=top_n).top_n == meant


@pytest.mark.parametrize(
    ("fields", "truncation", "limit"),
    [
        ({}, False, None),
        ({"truncate_prompt_tokens": None}, False, None),
        ({"truncate_prompt_tokens": -1}, True, None),
        ({"truncate_prompt_tokens": 512}, True, 512),
        ({"max_tokens_per_doc": 0}, False, None),
        ({"max_tokens_per_doc": 100}, False, 100),
        ({"truncate_prompt_tokens": 512, "max_tokens_per_doc": 100}, True, 100),
        ({"truncate_prompt_tokens": 64, "max_tokens_per_doc": 100}, True, 64),
        ({"truncate_prompt_tokens": -1, "max_tokens_per_doc": 100}, True, 100),
    ],
)
def test_what_is_too_long_is_an_error_unless_a_cut_is_asked_for(
    fields: dict[str, int], truncation: bool, limit: int | None
) -> None:
    found = parsed(**fields)
    assert (found.truncation, found.max_tokens_per_doc) == (truncation, limit)


def test_a_cut_before_the_first_token_is_refused() -> None:
    with pytest.raises(BadRequest) as caught:
        parsed(truncate_prompt_tokens=-2)
    assert caught.value.param == "truncate_prompt_tokens"
    assert "from -1" in caught.value.message


@pytest.mark.parametrize(
    ("fields", "raw"),
    [
        ({"use_activation": False}, True),
        ({"use_activation": True}, False),
        ({"activation": False}, True),
        ({"use_activation": True, "activation": False}, False),
        ({"use_activation": None, "activation": None}, None),
    ],
)
def test_no_activation_means_logits(fields: dict[str, bool], raw: bool | None) -> None:
    assert parsed(**fields).raw_scores is raw


@pytest.mark.parametrize(
    "fields",
    [
        {"instruction": "i"},
        {"chat_template_kwargs": {"instruction": "i", "more": 1}},
        {"instruction": "i", "chat_template_kwargs": {"instruction": "other"}},
        {"instruction": "i", "chat_template_kwargs": None},
    ],
)
def test_an_instruction_is_found_in_both_places(fields: dict[str, Any]) -> None:
    assert parsed(**fields).instruction == "i"


def test_what_cannot_be_honoured_is_said_to_be_unread() -> None:
    found = parsed(truncation_side="left", max_tokens_per_query=8, request_id="r", cache_salt="s", user="u")
    assert found.unread == ("truncation_side", "max_tokens_per_query", "request_id", "cache_salt")


def test_what_asks_for_what_we_do_is_not_unread() -> None:
    assert parsed(truncation_side="right", max_tokens_per_query=0, user="u").unread == ()


@pytest.mark.parametrize(("priority", "meant"), [(0, "interactive"), (-5, "interactive"), (3, "batch")])
def test_a_higher_number_waits(priority: int, meant: str) -> None:
    assert parsed(priority=priority).priority == meant


def test_a_request_asks_for_the_cut_that_was_wanted_and_for_no_priority() -> None:
    assert rendered(model="m", top_n=1, raw_scores=True, priority="batch") == {
        "model": "m",
        "query": "q",
        "documents": ["a", "b"],
        "top_n": 1,
        "truncate_prompt_tokens": -1,
        "use_activation": False,
    }


def test_a_request_never_holds_a_null_or_a_cut_that_was_not_wanted() -> None:
    assert rendered(truncation=False) == {"query": "q", "documents": ["a", "b"]}


def test_an_instruction_is_sent_to_both_places() -> None:
    body = rendered(instruction="i")
    assert (body["instruction"], body["chat_template_kwargs"]) == ("i", {"instruction": "i"})


def test_a_real_answer_is_written() -> None:
    response = RerankResponse(
        model="m", results=(Result(1, 0.9, Document("b", {"text": "b", "id": 7})),), usage=Usage(prompt_tokens=12)
    )
    assert json.loads(Vllm().render_response(response, request_for("a", "b"), CALL)) == {
        "id": "score-the-request",
        "model": "m",
        "usage": {"prompt_tokens": 12, "total_tokens": 12},
        "results": [{"index": 1, "document": {"text": "b", "multi_modal": None}, "relevance_score": 0.9}],
    }


def test_a_real_answer_is_read() -> None:
    results = [
        {"index": 1, "document": {"text": "b", "multi_modal": None}, "relevance_score": 0.9},
        {"index": 0, "document": {"text": None, "multi_modal": [{"type": "image_url"}]}, "relevance_score": 0.1},
    ]
    usage = {"prompt_tokens": 12, "total_tokens": 12, "completion_tokens": 0, "prompt_tokens_details": None}
    assert read({"id": "score-1", "model": "m", "usage": usage, "results": results}) == RerankResponse(
        model="m", results=(Result(1, 0.9, Document("b")), Result(0, 0.1)), usage=Usage(prompt_tokens=12)
    )


def test_an_older_servers_answer_is_read() -> None:
    answer = read({"results": [{"index": 0, "relevance_score": 0.5, "document": "a"}], "usage": {"total_tokens": 12}})
    assert (answer.model, answer.results) == ("asked", (Result(0, 0.5, Document("a")),))
    assert answer.usage == Usage(prompt_tokens=12)


@pytest.mark.parametrize(
    ("error", "status", "kind"),
    [
        (BadRequest("No.", param="top_n"), 400, "BadRequestError"),
        (ModelNotFound("No."), 404, "NotFoundError"),
        (Unauthenticated("No."), 401, "Unauthorized"),
        (Overloaded("No."), 503, "Service Unavailable"),
        (DeadlineExceeded("No."), 504, "Gateway Timeout"),
        (EngineError("No."), 500, "InternalServerError"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, RerankError) else str(value),
)
def test_an_error_is_openais_with_the_status_as_its_code(error: RerankError, status: int, kind: str) -> None:
    found, body = Vllm().render_error(error, "the-request")
    detail = {"message": "No.", "type": kind, "param": error.param, "code": status}
    assert (found, json.loads(body)) == (status, {"error": detail})


@pytest.mark.parametrize(
    "body",
    [
        {"error": {"message": "Longer than 512.", "type": "BadRequestError", "param": None, "code": 400}},
        {"object": "error", "message": "Longer than 512.", "type": "BadRequestError", "param": None, "code": 400},
    ],
    ids=["new", "old"],
)
def test_the_real_servers_error_is_read(body: dict[str, Any]) -> None:
    error = Vllm().parse_error(400, {}, json.dumps(body).encode())
    assert (type(error), error.message) == (BadRequest, "Longer than 512.")


def test_the_real_servers_401_is_read() -> None:
    error = Vllm().parse_error(401, {}, b'{"error":"Unauthorized"}')
    assert (type(error), error.message) == (Unauthenticated, "Unauthorized")
