"""Usage and errors as servers took them over from OpenAI."""

from __future__ import annotations

import json

import pytest

from rerankd.dialects.openai_shapes import AnswerUsage, counted, parse_error
from rerankd.errors import BadRequest, Unauthenticated
from rerankd.types import Usage


@pytest.mark.parametrize(
    ("usage", "tokens"),
    [
        (AnswerUsage(12, 12), Usage(prompt_tokens=12)),
        (AnswerUsage(None, 12), Usage(prompt_tokens=12)),
        (AnswerUsage(0, 0), Usage(prompt_tokens=0)),
        (AnswerUsage(), Usage(prompt_tokens=0, estimated=True)),
        (None, Usage(prompt_tokens=0, estimated=True)),
    ],
)
def test_usage_is_estimated_only_where_nobody_counted(usage: AnswerUsage | None, tokens: Usage) -> None:
    assert counted(usage) == tokens


@pytest.mark.parametrize(
    "body",
    [
        {"error": {"message": "Too long.", "type": "BadRequestError", "param": "query", "code": 400}},
        {"error": {"message": "Too long.", "type": None, "param": None, "code": "400"}},
        {"error": {"message": "Too long.", "param": ["query", 1]}},
        {"object": "error", "message": "Too long.", "type": "BadRequestError", "param": None, "code": 400},
        {"error": "Too long."},
        {"detail": "Too long."},
        "Too long.",
    ],
    ids=json.dumps,
)
def test_the_message_is_found_wherever_it_stands(body: object) -> None:
    error = parse_error(400, {}, json.dumps(body).encode())
    assert (type(error), error.message) == (BadRequest, "Too long.")


def test_the_field_at_fault_is_read() -> None:
    assert parse_error(400, {}, b'{"error":{"message":"No.","param":"query"}}').param == "query"


def test_a_bodys_own_shape_comes_before_what_stands_beside_it() -> None:
    error = parse_error(401, {}, b'{"detail":"Unauthorized","error":{"message":"The key has expired."}}')
    assert (type(error), error.message) == (Unauthenticated, "The key has expired.")
