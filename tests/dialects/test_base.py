"""What every wire format promises, whichever it is."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rerankd.dialects.base import Dialect
from rerankd.dialects.local import Local
from rerankd.dialects.root_request import RootRequest
from rerankd.dialects.superset import Superset
from rerankd.errors import BadRequest, UpstreamMalformed
from rerankd.types import Call, Document, RerankRequest, RerankResponse, Result, Usage
from tests.conftest import request_for
from tests.dialects.strategies import REQUESTS, RESPONSES

DIALECTS: list[Dialect] = [Local(), Superset()]
CALL = Call("the-request", created=1_700_000_000)

every_dialect = pytest.mark.parametrize("dialect", DIALECTS, ids=lambda dialect: dialect.name)


def without(losses: frozenset[str], response: RerankResponse) -> RerankResponse:
    """The response as it is after a format has lost these fields."""
    blank: dict[str, Any] = {"warnings": (), "usage.cached_tokens": 0, "usage.estimated": False}
    assert losses <= set(blank)
    for name in losses:
        section, _, inner = name.partition(".")
        value = msgspec.structs.replace(response.usage, **{inner: blank[name]}) if inner else blank[name]
        response = msgspec.structs.replace(response, **{section: value})
    return response


@every_dialect
@given(request=REQUESTS)
def test_a_request_that_is_rendered_and_parsed_is_the_same_request(dialect: Dialect, request: RerankRequest) -> None:
    assert dialect.request_losses == frozenset()
    assert dialect.parse_request(dialect.render_request(request)) == request


@every_dialect
@given(response=RESPONSES)
def test_an_answer_that_is_rendered_and_parsed_is_the_same_but_for_the_declared_losses(
    dialect: Dialect, response: RerankResponse
) -> None:
    request = request_for()
    body = dialect.render_response(response, request, CALL)
    assert dialect.parse_response(body, request) == without(dialect.response_losses, response)


@every_dialect
def test_every_loss_that_is_declared_is_real(dialect: Dialect) -> None:
    usage = Usage(prompt_tokens=5, cached_tokens=3, estimated=True)
    response = RerankResponse(model="m", results=(), usage=usage, warnings=("w",))
    parsed = dialect.parse_response(dialect.render_response(response, request_for(), CALL), request_for())
    for loss in dialect.response_losses:
        assert parsed != without(dialect.response_losses - {loss}, response)


@every_dialect
def test_an_answer_is_given_under_the_name_that_was_asked_for(dialect: Dialect) -> None:
    response = RerankResponse(model="really", results=(), usage=Usage(prompt_tokens=0))
    for asked, answered in (("alias", "alias"), (None, "really")):
        assert json.loads(dialect.render_response(response, request_for(model=asked), CALL))["model"] == answered


@every_dialect
@pytest.mark.parametrize(
    "optional",
    sorted({field.name for field in msgspec.structs.fields(RootRequest)} - {"query", "documents"}),
    ids=lambda name: f"{name} null",
)
def test_null_means_absent_for_every_optional_field(dialect: Dialect, optional: str) -> None:
    fields: dict[str, Any] = {"query": "q", "documents": ["a"]}
    absent = dialect.parse_request(json.dumps(fields).encode())
    assert dialect.parse_request(json.dumps({**fields, optional: None}).encode()) == absent


@every_dialect
def test_unknown_fields_are_passed_over_wherever_they_stand(dialect: Dialect) -> None:
    documents = [{"text": "a", "title": {"x": [1, None]}}]
    body = {"query": "q", "documents": documents, "rank_fields": ["title"], "": {"deep": [[[]]]}}
    assert dialect.parse_request(json.dumps(body).encode()).documents == (Document("a"),)


@every_dialect
def test_documents_may_be_strings_and_objects_side_by_side_and_empty(dialect: Dialect) -> None:
    body = {"query": "q", "documents": ["a", {"text": "b"}, "", {"text": ""}]}
    found = dialect.parse_request(json.dumps(body).encode()).documents
    assert found == (Document("a"), Document("b"), Document(""), Document(""))


@every_dialect
@pytest.mark.parametrize("top_n", [0, None])
def test_top_n_zero_and_null_mean_all(dialect: Dialect, top_n: int | None) -> None:
    body = {"query": "q", "documents": ["a"], "top_n": top_n}
    assert dialect.parse_request(json.dumps(body).encode()).top_n is None


@every_dialect
@pytest.mark.parametrize("top_n", [2**31, 2**63, 10**20])
def test_a_top_n_beyond_all_documents_is_legal_and_can_be_passed_on(dialect: Dialect, top_n: int) -> None:
    request = dialect.parse_request(json.dumps({"query": "q", "documents": ["a"], "top_n": top_n}).encode())
    assert request.top_n == top_n
    assert dialect.parse_request(dialect.render_request(request)) == request


@every_dialect
def test_an_upstreams_lies_are_passed_on_as_they_stand_for_validate_to_find(dialect: Dialect) -> None:
    response = RerankResponse(model="m", results=(Result(-1, 0.5), Result(-1, 2.0)), usage=Usage(prompt_tokens=0))
    body = dialect.render_response(response, request_for(), CALL)
    assert dialect.parse_response(body, request_for()).results == response.results


@every_dialect
@pytest.mark.parametrize(
    "damage",
    [
        {"results": None},
        {"results": {"index": 0}},
        {"results": [{"index": 0}]},
        {"results": [{"relevance_score": 0.5}]},
        {"results": [{"index": "0", "relevance_score": 0.5}]},
        {"results": [{"index": 0.5, "relevance_score": 0.5}]},
        {"results": [{"index": True, "relevance_score": 0.5}]},
        {"results": [{"index": 0, "relevance_score": None}]},
        {"results": [{"index": 0, "relevance_score": "0.5"}]},
        {"results": [{"index": 0, "relevance_score": float("nan")}]},
        {"results": [{"index": 0, "relevance_score": float("inf")}]},
        {"results": [{"index": 0, "relevance_score": 0.5, "document": 7}]},
        {"usage": 7},
    ],
    ids=repr,
)
def test_an_upstreams_answer_of_the_wrong_form_is_malformed(dialect: Dialect, damage: dict[str, Any]) -> None:
    response = RerankResponse(model="m", results=(Result(0, 0.5),), usage=Usage(prompt_tokens=0))
    sound = json.loads(dialect.render_response(response, request_for(), CALL))
    with pytest.raises(UpstreamMalformed):
        dialect.parse_response(json.dumps({**sound, **damage}).encode(), request_for())


@every_dialect
@pytest.mark.parametrize("body", [b"", b"[]", b"null", b"<html>", b"\xff", b'{"model": "m"', b"[" * 10**6])
def test_an_upstreams_answer_that_is_no_json_object_is_malformed(dialect: Dialect, body: bytes) -> None:
    with pytest.raises(UpstreamMalformed):
        dialect.parse_response(body, request_for())


@every_dialect
@given(body=st.binary(max_size=60))
def test_whatever_an_upstream_sends_is_an_answer_or_malformed(dialect: Dialect, body: bytes) -> None:
    try:
        dialect.parse_response(body, request_for())
    except UpstreamMalformed:
        return
    raise AssertionError("these bytes are no answer")


@every_dialect
def test_errors_go_through_the_root_form(dialect: Dialect) -> None:
    status, body = dialect.render_error(BadRequest("No.", param="query"))
    error = dialect.parse_error(status, {}, body)
    assert (type(error), error.message, error.param) == (BadRequest, "No.", "query")


@every_dialect
def test_openapi_is_written_from_the_types_that_requests_and_answers_have(dialect: Dialect) -> None:
    requests, responses = dialect.schemas()
    msgspec.json.decode(dialect.render_request(request_for()), type=requests)
    response = RerankResponse(model="m", results=(Result(0, 0.5),), usage=Usage(prompt_tokens=0))
    msgspec.json.decode(dialect.render_response(response, request_for(), CALL), type=responses)
