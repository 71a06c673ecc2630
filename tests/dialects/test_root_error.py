from __future__ import annotations

import inspect
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rerankd import errors
from rerankd.dialects import root_error
from rerankd.errors import BadRequest, BadSettings, ClientError, RateLimited, RerankError, UpstreamError

CLASSES = [cls for _, cls in inspect.getmembers(errors, inspect.isclass) if issubclass(cls, RerankError)]


@pytest.mark.parametrize("cls", [cls for cls in CLASSES if cls is not ClientError] + [BadSettings])
def test_every_error_that_is_rendered_and_parsed_is_the_same_error(cls: type[RerankError]) -> None:
    status, body = root_error.render(cls("It is wrong.", param="documents[3].text", retry_after=7))
    error = root_error.parse(status, {"retry-after": "7"}, body)
    assert type(error) is cls
    assert (error.message, error.param, error.retry_after) == ("It is wrong.", "documents[3].text", 7)


def test_a_client_error_of_no_particular_kind_is_parsed_as_a_bad_request() -> None:
    status, body = root_error.render(ClientError("No."))
    assert type(root_error.parse(status, {}, body)) is BadRequest


@given(st.text(), st.none() | st.text())
def test_any_message_survives(message: str, param: str | None) -> None:
    error = root_error.parse(*_sent(BadRequest(message, param=param)))
    assert (error.message, error.param) == (message, param)


def _sent(error: RerankError) -> tuple[int, dict[str, str], bytes]:
    status, body = root_error.render(error)
    return status, {}, body


def test_clients_of_jina_cohere_and_openai_each_find_the_message() -> None:
    status, body = root_error.render(BadRequest("No query.", param="query"))
    assert status == 400
    assert json.loads(body) == {
        "detail": "No query.",
        "message": "No query.",
        "error": {"message": "No query.", "type": "invalid_request_error", "code": "invalid_request", "param": "query"},
    }


@pytest.mark.parametrize("cls", CLASSES)
def test_the_type_says_whose_fault_it_is(cls: type[RerankError]) -> None:
    status, body = root_error.render(cls("No."))
    kinds = {401: "authentication_error", 429: "rate_limit_error"}
    assert json.loads(body)["error"]["type"] == kinds.get(
        status, "invalid_request_error" if status < 500 else "server_error"
    )


def test_a_code_under_another_status_is_an_upstream_error_with_the_message() -> None:
    _, body = root_error.render(RateLimited("Slower."))
    error = root_error.parse(500, {}, body)
    assert (type(error), error.message) == (UpstreamError, "Slower.")


@pytest.mark.parametrize("body", [b"", b"<html>Bad gateway</html>", b"{}", b'{"detail": "x"}', b"\xff", b"[" * 10**6])
def test_a_body_that_is_none_of_ours_is_an_upstream_error_that_keeps_its_text_to_itself(body: bytes) -> None:
    error = root_error.parse(502, {}, body)
    assert type(error) is UpstreamError
    assert "502" in error.message
    assert "gateway" not in error.message


@pytest.mark.parametrize("value", ["", "soon", "-1", "1e3", "Wed, 21 Oct 2026 07:28:00 GMT", "\u0663"])
def test_a_retry_after_that_is_no_count_of_seconds_is_passed_over(value: str) -> None:
    status, body = root_error.render(RateLimited("Slower."))
    assert root_error.parse(status, {"retry-after": value}, body).retry_after is None
