"""POST /v1/ranking and /v1/retrieval/{model}/reranking, as NVIDIA's clients, RAGFlow and litellm send and read them."""

from __future__ import annotations

import json
from typing import Any

import pytest

from rerankd.dialects.nvidia import Nvidia
from rerankd.errors import BadRequest, ModelNotFound, NotFound, RerankError, Unauthenticated, UpstreamError
from rerankd.types import Call, Document, RerankRequest, RerankResponse, Result, Usage
from tests.conftest import request_for

CALL = Call("the-request")
BOTH = (Document("a"), Document("b"))
LEAST = {"query": {"text": "q"}, "passages": [{"text": "a"}, {"text": "b"}]}


def parsed(**fields: Any) -> RerankRequest:
    return Nvidia().parse_request(json.dumps({**LEAST, **fields}).encode())


def read(body: object) -> RerankResponse:
    return Nvidia().parse_response(json.dumps(body).encode(), {}, request_for("a", "b", model="asked"))


def test_langchains_request_is_read() -> None:
    found = parsed(model="m", truncate="END")
    assert found == RerankRequest(query="q", documents=BOTH, model="m", truncation=True, raw_scores=True)


def test_what_is_too_long_is_an_error_unless_a_cut_is_asked_for() -> None:
    assert [parsed(truncate=said).truncation for said in ("END", "NONE", None)] == [True, False, False]
    assert not parsed().truncation


def test_logits_are_what_is_always_asked_for() -> None:
    assert parsed().raw_scores is True


@pytest.mark.parametrize(
    ("fields", "top_n"),
    [({"top_n": 1}, 1), ({"top_k": 1}, 1), ({"top_n": 2, "top_k": 1}, 2), ({"top_n": None, "top_k": 1}, 1), ({}, None)],
)
def test_ragflows_top_n_and_litellms_top_k_are_heard(fields: dict[str, Any], top_n: int | None) -> None:
    assert parsed(**fields).top_n == top_n


def test_strings_are_read_where_objects_should_be() -> None:
    assert parsed(query="q", passages=["a", "b"]) == parsed()


@pytest.mark.parametrize(
    ("fields", "param", "message"),
    [
        ({"query": 7}, "query", '`query` must be an object {"text": string}, not a number.'),
        ({"query": {}}, "query", "`query` lacks `text`"),
        ({"passages": []}, "passages", "`passages` is empty"),
        ({"passages": [{"text": "a"}, {"image": "u"}]}, "passages[1]", "`passages[1]` is no text"),
        ({"truncate": "START"}, "truncate", '`truncate` must be "NONE" or "END".'),
        ({"top_k": -1}, "top_k", "`top_k` must not be negative"),
    ],
)
def test_the_fault_is_named_as_the_client_knows_it(fields: dict[str, Any], param: str, message: str) -> None:
    with pytest.raises(BadRequest) as caught:
        parsed(**fields)
    assert (caught.value.param, caught.value.message[: len(message)]) == (param, message)


def test_a_request_to_an_upstream_has_no_field_that_a_nim_refuses() -> None:
    request = RerankRequest(query="q", documents=BOTH, model="m", top_n=1, return_documents=True, truncation=False)
    assert json.loads(Nvidia().render_request(request)) == {**LEAST, "model": "m", "truncate": "NONE"}
    assert json.loads(Nvidia().render_request(request_for("a")))["truncate"] == "END"


def test_a_real_answer_is_written() -> None:
    results = (Result(1, 3.2, Document("b")), Result(0, -1.0))
    response = RerankResponse(model="m", results=results, usage=Usage(prompt_tokens=12))
    assert json.loads(Nvidia().render_response(response, request_for("a", "b"), CALL)) == {
        "rankings": [{"index": 1, "logit": 3.2}, {"index": 0, "logit": -1.0}],
        "usage": {"prompt_tokens": 12, "total_tokens": 12},
    }


@pytest.mark.parametrize(
    ("usage", "counted"),
    [
        ({}, Usage(prompt_tokens=0, estimated=True)),
        ({"usage": None}, Usage(prompt_tokens=0, estimated=True)),
        ({"usage": {"prompt_tokens": 9, "total_tokens": 9}}, Usage(prompt_tokens=9)),
    ],
)
def test_a_real_answer_is_read(usage: dict[str, Any], counted: Usage) -> None:
    found = read({"rankings": [{"index": 1, "logit": 3.2}, {"index": 0, "logit": -1.0}], **usage})
    assert found == RerankResponse(model="asked", results=(Result(1, 3.2), Result(0, -1.0)), usage=counted)


@pytest.mark.parametrize(("error", "status"), [(BadRequest("No."), 400), (ModelNotFound("No."), 404)])
def test_an_error_is_a_string(error: RerankError, status: int) -> None:
    found, body = Nvidia().render_error(error, "the-request")
    assert (found, json.loads(body)) == (status, {"error": "No."})


@pytest.mark.parametrize(
    ("status", "body", "kind"),
    [
        (400, {"error": "No."}, BadRequest),
        (422, {"detail": [{"msg": "No."}]}, BadRequest),
        (404, {"status": 404, "title": "Not Found", "detail": "No."}, NotFound),
        (401, {"detail": "No."}, Unauthenticated),
        (500, {"object": "error", "message": "No.", "type": "internal_server_error"}, UpstreamError),
    ],
)
def test_a_real_error_is_read(status: int, body: object, kind: type[RerankError]) -> None:
    found = Nvidia().parse_error(status, {}, json.dumps(body).encode())
    assert (type(found), found.message) == (kind, "No.")
