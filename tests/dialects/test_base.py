"""What every wire format promises, whichever it is."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rerankd.dialects.base import Dialect
from rerankd.dialects.decoding import reader
from rerankd.dialects.directory import CALLED, DIALECTS
from rerankd.dialects.fields import EXPECTED
from rerankd.errors import (
    BadRequest,
    ClientError,
    DeadlineExceeded,
    EngineError,
    Forbidden,
    ModelNotFound,
    Overloaded,
    RateLimited,
    Refused,
    RerankError,
    TooLarge,
    Unauthenticated,
    UnknownField,
    UpstreamError,
    UpstreamMalformed,
)
from rerankd.types import Call, Document, RerankRequest, RerankResponse, Result, Usage
from tests.conftest import request_for
from tests.dialects.losses import request_without, response_without
from tests.dialects.strategies import REQUESTS, RESPONSES

CALL = Call("the-request", created=1_700_000_000)
SIX = request_for(*"abcdef")
ERRORS: list[RerankError] = [
    BadRequest("`top_n` must be a whole number.", param="top_n"),
    UnknownField("There is no such field.", param="top_k"),
    Unauthenticated("The API key is not valid here."),
    Forbidden("Not for this key."),
    ModelNotFound("No model is named x."),
    TooLarge("Too many documents.", param="documents"),
    RateLimited("Too many requests.", retry_after=3),
    Overloaded("There is no capacity.", retry_after=2),
    DeadlineExceeded("The time was up."),
    UpstreamError("Everyone we asked has failed."),
    EngineError("The model failed."),
]

every_dialect = pytest.mark.parametrize("dialect", DIALECTS.values(), ids=lambda dialect: dialect.name)


def rendered(dialect: Dialect, request: RerankRequest | None = None) -> dict[str, Any]:
    body: dict[str, Any] = json.loads(dialect.render_request(request or request_for("a", "b", model="m")))
    return body


def heard(parsed: RerankRequest, request: RerankRequest) -> RerankRequest:
    """What was parsed; where a format must say how many are wanted, as many as there are stands for all."""
    every = request.top_n is None and parsed.top_n == len(request.documents)
    return msgspec.structs.replace(parsed, top_n=None) if every else parsed


def answered(dialect: Dialect, response: RerankResponse, request: RerankRequest = SIX) -> RerankResponse:
    """The response, out and in again."""
    headers = dialect.response_headers(response, request, CALL)
    return dialect.parse_response(dialect.render_response(response, request, CALL), headers, request)


@every_dialect
@given(request=REQUESTS)
def test_a_request_that_is_rendered_and_parsed_is_the_same_but_for_the_declared_losses(
    dialect: Dialect, request: RerankRequest
) -> None:
    parsed = dialect.parse_request(dialect.render_request(request))
    assert heard(parsed, request) == request_without(dialect.request_losses, request)


@every_dialect
def test_every_loss_of_a_request_that_is_declared_is_real(dialect: Dialect) -> None:
    full = RerankRequest(
        query="q",
        documents=(Document("a", {"text": "a", "title": "t"}),),
        model="m",
        top_n=1,
        return_documents=not dialect.request_losses.get("return_documents", False),
        return_embeddings=True,
        instruction="i",
        max_tokens_per_doc=5,
        max_chunks_per_doc=6,
        overlap_tokens=7,
        truncation=not dialect.request_losses.get("truncation", True),
        raw_scores=not dialect.request_losses.get("raw_scores", False),
        priority="batch",
        unread=("u",),
    )
    parsed = dialect.parse_request(dialect.render_request(full))
    for loss in dialect.request_losses:
        others = {name: value for name, value in dialect.request_losses.items() if name != loss}
        assert parsed != request_without(others, full), loss


@every_dialect
@given(response=RESPONSES)
def test_an_answer_that_is_rendered_and_parsed_is_the_same_but_for_the_declared_losses(
    dialect: Dialect, response: RerankResponse
) -> None:
    assert answered(dialect, response) == response_without(dialect.response_losses, response)


@every_dialect
def test_every_loss_of_an_answer_that_is_declared_is_real(dialect: Dialect) -> None:
    response = RerankResponse(
        model="really",
        results=(
            Result(3, 0.5, Document("d", {"text": "d", "title": "t"}), (0.5, 1.0)),
            Result(1, 0.25, Document("b"), None),
        ),
        usage=Usage(prompt_tokens=5, cached_tokens=3, estimated=True, search_units=9),
        warnings=("w",),
    )
    parsed = answered(dialect, response)
    for loss in dialect.response_losses:
        assert parsed != response_without(dialect.response_losses - {loss}, response), loss


@every_dialect
def test_an_answer_is_given_under_the_name_that_was_asked_for(dialect: Dialect) -> None:
    response = RerankResponse(model="really", results=(), usage=Usage(prompt_tokens=0))
    for asked, given_name in (("alias", "alias"), (None, "really")):
        body = json.loads(dialect.render_response(response, request_for(model=asked), CALL))
        assert "model" in dialect.response_losses or body["model"] == given_name


@every_dialect
def test_null_means_absent_for_every_optional_field(dialect: Dialect) -> None:
    least = rendered(dialect)
    absent = dialect.parse_request(json.dumps(least).encode())
    kind, _ = dialect.schemas()
    for field in msgspec.structs.fields(kind):
        if field.encode_name not in least:
            body = json.dumps({**least, field.encode_name: None}).encode()
            assert dialect.parse_request(body) == absent, field.encode_name


@every_dialect
def test_unknown_fields_are_passed_over(dialect: Dialect) -> None:
    least = rendered(dialect)
    absent = dialect.parse_request(json.dumps(least).encode())
    body = {**least, "": {"deep": [[[]]]}, "user": "u", "x-anything": 7}
    assert dialect.parse_request(json.dumps(body).encode()) == absent


@every_dialect
def test_an_empty_document_is_legal(dialect: Dialect) -> None:
    request = request_for("a", "", "b")
    assert dialect.parse_request(dialect.render_request(request)).documents == request.documents


@every_dialect
@pytest.mark.parametrize(
    "request_", [RerankRequest(query="", documents=(Document("a"),)), RerankRequest(query="q", documents=())], ids=repr
)
def test_an_empty_query_and_no_documents_are_refused(dialect: Dialect, request_: RerankRequest) -> None:
    with pytest.raises(BadRequest) as caught:
        dialect.parse_request(dialect.render_request(request_))
    assert caught.value.param


@every_dialect
@pytest.mark.parametrize("body", [b"", b"[]", b"null", b"7", b"{", b"\xff", b'{"query": }'])
def test_what_is_no_json_object_is_a_bad_request(dialect: Dialect, body: bytes) -> None:
    with pytest.raises(BadRequest):
        dialect.parse_request(body)


@every_dialect
@given(
    body=st.recursive(st.none() | st.booleans() | st.integers() | st.text(max_size=5), lambda inner: st.lists(inner))
)
def test_a_field_of_another_type_is_a_bad_request_or_understood(dialect: Dialect, body: object) -> None:
    for name in rendered(dialect):
        with suppress(BadRequest):  # and nothing else
            dialect.parse_request(json.dumps({**rendered(dialect), name: body}).encode())


@every_dialect
def test_every_field_has_a_sentence_about_what_it_must_be(dialect: Dialect) -> None:
    kind, _ = dialect.schemas()
    for field in msgspec.structs.fields(kind):
        assert field.encode_name in EXPECTED, field.encode_name


@every_dialect
def test_an_upstreams_lies_are_passed_on_as_they_stand_for_validate_to_find(dialect: Dialect) -> None:
    if "results.order" in dialect.response_losses:
        return
    response = RerankResponse(model="m", results=(Result(-1, 0.5), Result(-1, 2.0)), usage=Usage(prompt_tokens=0))
    assert answered(dialect, response).results == response.results


DAMAGES: list[tuple[str, object]] = [
    ("index", "0"),
    ("index", 0.5),
    ("index", True),
    ("index", None),
    ("score", None),
    ("score", "0.5"),
    ("score", float("nan")),
    ("score", float("inf")),
    ("document", 7),
    ("results", None),
    ("results", {"index": 0}),
    ("results", [7]),
    ("usage", 7),
]
NAMES = {
    "score": ("relevance_score", "score", "logit"),
    "document": ("document", "text", "input"),
    "results": ("results", "data", "rankings"),
    "usage": ("usage", "meta"),
}


@every_dialect
@pytest.mark.parametrize(("part", "value"), DAMAGES, ids=repr)
def test_an_upstreams_answer_of_the_wrong_form_is_malformed(dialect: Dialect, part: str, value: object) -> None:
    if part == "document" and "results.document" in dialect.response_losses:
        return
    response = RerankResponse(model="m", results=(Result(0, 0.5, Document("a")),), usage=Usage(prompt_tokens=0))
    sound = json.loads(dialect.render_response(response, SIX, CALL))
    damaged, done = _damaged(sound, NAMES.get(part, (part,)), value)
    if not done:
        assert part in ("usage", "results"), "this format has no such part"
        return
    with pytest.raises(UpstreamMalformed):
        dialect.parse_response(json.dumps(damaged).encode(), {}, SIX)


def _damaged(found: Any, names: tuple[str, ...], value: object) -> tuple[Any, bool]:
    """The first of `names` in `found`, wherever it stands, changed to `value`."""
    if isinstance(found, list):
        parts = [_damaged(item, names, value) for item in found]
        return [part for part, _ in parts], any(done for _, done in parts)
    if not isinstance(found, dict):
        return found, False
    for name in names:
        if name in found:
            return {**found, name: value}, True
    fields = {name: _damaged(item, names, value) for name, item in found.items()}
    return {name: part for name, (part, _) in fields.items()}, any(done for _, done in fields.values())


@pytest.mark.parametrize("dialect", CALLED.values(), ids=lambda dialect: dialect.name)
@pytest.mark.parametrize("body", [b"", b"null", b"7", b'"x"', b"<html>", b"\xff", b'{"model": "m"', b"[" * 10**6])
def test_an_upstreams_answer_that_is_no_json_is_malformed(dialect: Dialect, body: bytes) -> None:
    with pytest.raises(UpstreamMalformed):
        dialect.parse_response(body, {}, SIX)


@pytest.mark.parametrize("dialect", CALLED.values(), ids=lambda dialect: dialect.name)
@given(body=st.binary(max_size=60), status=st.integers(400, 599))
def test_whatever_an_upstream_sends_is_an_answer_or_an_error_of_ours(
    dialect: Dialect, body: bytes, status: int
) -> None:
    assert isinstance(dialect.parse_error(status, {}, body), RerankError)
    try:
        dialect.parse_response(body, {}, SIX)
    except UpstreamMalformed:
        return
    assert body.strip() == b"[]", "these bytes are no answer"


@every_dialect
@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
def test_an_error_keeps_its_kind_and_says_what_was_wrong(dialect: Dialect, error: RerankError) -> None:
    status, body = dialect.render_error(error, "the-request")
    assert 400 <= status <= 599
    parsed = dialect.parse_error(status, {"retry-after": "3"}, body)
    for kind in (ClientError, Refused):
        assert isinstance(parsed, kind) == isinstance(error, kind)
    assert parsed.retryable == error.retryable or isinstance(error, EngineError)
    if not isinstance(error, Unauthenticated | UnknownField):  # some formats say nothing, or in their own words
        assert parsed.message == error.message
    if isinstance(error, Refused):
        assert parsed.retry_after == 3.0


@every_dialect
def test_openapi_is_written_from_the_types_that_requests_and_answers_have(dialect: Dialect) -> None:
    requests, responses = dialect.schemas()
    reader(requests).decode(dialect.render_request(request_for()))
    response = RerankResponse(model="m", results=(Result(0, 0.5),), usage=Usage(prompt_tokens=0))
    msgspec.json.decode(dialect.render_response(response, request_for(), CALL), type=responses)
