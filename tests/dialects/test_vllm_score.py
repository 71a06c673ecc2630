"""POST /v1/score, as vLLM speaks it: two sides under four pairs of names."""

from __future__ import annotations

import json
from typing import Any

import pytest

from rerankd.dialects.vllm_score import VllmScore
from rerankd.errors import BadRequest, EngineError
from rerankd.types import Call, Document, RerankRequest, RerankResponse, Result, Usage
from tests.conftest import request_for

AB = (Document("a"), Document("b"))
CALL = Call("the-request", created=1_700_000_000)


def parsed(**fields: Any) -> RerankRequest:
    return VllmScore().parse_request(json.dumps(fields).encode())


def refused(**fields: Any) -> BadRequest:
    with pytest.raises(BadRequest) as caught:
        parsed(**fields)
    return caught.value


def test_a_real_request_is_read_with_the_formats_defaults() -> None:
    wanted = RerankRequest(query="q", documents=AB, model="m", return_documents=False, truncation=False)
    assert parsed(model="m", text_1="q", text_2=["a", "b"]) == wanted


@pytest.mark.parametrize(
    ("first", "second"),
    [("text_1", "text_2"), ("data_1", "data_2"), ("queries", "documents"), ("queries", "items")],
)
def test_the_two_sides_have_four_pairs_of_names(first: str, second: str) -> None:
    found = parsed(**{first: "q", second: ["a", "b"]})
    assert (found.query, found.documents) == ("q", AB)
    empty = refused(**{first: "q", second: []})
    assert empty.param == second


@pytest.mark.parametrize("queries", ["q", ["q"], ["q", "q"], {"text": "q"}, [{"text": "q"}, "q"]], ids=json.dumps)
def test_one_query_is_taken_however_often_it_is_said(queries: object) -> None:
    assert parsed(text_1=queries, text_2=["a", "b"]).query == "q"


@pytest.mark.parametrize("text", ["a", ["a"], {"text": "a"}, {"content": [{"type": "text", "text": "a"}]}], ids=repr)
def test_one_text_may_stand_alone(text: object) -> None:
    assert [document.text for document in parsed(text_1="q", text_2=text).documents] == ["a"]


def test_different_queries_are_refused_with_what_to_do() -> None:
    error = refused(queries=["q", "r"], items=["a", "b"])
    assert error.param == "queries"
    assert error.message == (
        "`queries` holds 2 different queries; a request is ranked for one: send one for each query."
    )


@pytest.mark.parametrize(("queries", "texts"), [(2, 3), (3, 2), (2, 1)])
def test_queries_that_do_not_pair_up_are_refused(queries: int, texts: int) -> None:
    error = refused(text_1=["q"] * queries, text_2=["a"] * texts)
    assert (error.param, f"{queries} elements" in error.message) == ("text_1", True)


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"text_2": ["a"]}, "text_1"),
        ({"text_1": "", "text_2": ["a"]}, "text_1"),
        ({"text_1": [], "text_2": ["a"]}, "text_1"),
        ({"text_1": [""], "text_2": ["a"]}, "text_1[0]"),
        ({"text_1": "q"}, "text_2"),
        ({"text_1": "q", "text_2": ["a", {"image": "x"}]}, "text_2[1]"),
        ({"text_1": 7, "text_2": ["a"]}, "text_1"),
        ({"text_1": "q", "text_2": 7}, "text_2"),
    ],
    ids=repr,
)
def test_what_is_missing_is_named(fields: dict[str, object], param: str) -> None:
    assert refused(**fields).param == param


def test_what_a_side_must_be_is_said() -> None:
    assert "a non-empty string, or a list with one" in refused(text_1=7, text_2=["a"]).message
    assert "a string, or a non-empty list" in refused(text_1="q", text_2=7).message


def test_the_options_are_those_of_rerank() -> None:
    found = parsed(text_1="q", text_2="a", truncate_prompt_tokens=-1, use_activation=False, truncation_side="left")
    assert (found.truncation, found.raw_scores, found.unread) == (True, True, ("truncation_side",))


def test_a_request_is_written_with_the_names_that_every_version_knows() -> None:
    request = RerankRequest(query="q", documents=AB, model="m", truncation=False, top_n=1, return_documents=True)
    body = json.loads(VllmScore().render_request(request))
    assert body == {"model": "m", "text_1": "q", "text_2": ["a", "b"]}


def test_a_real_answer_is_written_in_the_order_of_the_texts() -> None:
    results = (Result(1, 0.9, Document("b")), Result(0, 0.1, Document("a")))
    response = RerankResponse(model="m", results=results, usage=Usage(prompt_tokens=12))
    assert json.loads(VllmScore().render_response(response, request_for("a", "b"), CALL)) == {
        "id": "score-the-request",
        "object": "list",
        "created": 1_700_000_000,
        "model": "m",
        "data": [{"index": 0, "object": "score", "score": 0.1}, {"index": 1, "object": "score", "score": 0.9}],
        "usage": {"prompt_tokens": 12, "total_tokens": 12},
    }


def test_a_real_answer_is_read() -> None:
    body = {
        "id": "score-1",
        "object": "list",
        "created": 1,
        "model": "m",
        "data": [{"index": 0, "object": "score", "score": 0.1}, {"index": 1, "object": "score", "score": 0.9}],
        "usage": {"prompt_tokens": 12, "total_tokens": 12, "completion_tokens": 0},
    }
    answer = VllmScore().parse_response(json.dumps(body).encode(), {}, request_for("a", "b"))
    assert answer == RerankResponse(model="m", results=(Result(0, 0.1), Result(1, 0.9)), usage=Usage(prompt_tokens=12))


def test_an_upstreams_lies_are_passed_on_as_they_stand() -> None:
    body = {"data": [{"index": 7, "score": 0.1}, {"index": -1, "score": 2.5}]}
    answer = VllmScore().parse_response(json.dumps(body).encode(), {}, request_for("a", "b", model="asked"))
    assert (answer.model, answer.results) == ("asked", (Result(7, 0.1), Result(-1, 2.5)))


def test_an_error_is_vllms() -> None:
    status, body = VllmScore().render_error(EngineError("No."), "the-request")
    detail = {"message": "No.", "type": "InternalServerError", "param": None, "code": 500}
    assert (status, json.loads(body)) == (500, {"error": detail})
