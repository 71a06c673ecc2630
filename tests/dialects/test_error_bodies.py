"""Where the message of an upstream's error stands."""

from __future__ import annotations

import json

import pytest

from rerankd.dialects.error_bodies import message_in, render_detail
from rerankd.errors import TooLarge

FASTAPI = [
    {"loc": ["body", "top_n"], "msg": "Input should be a valid integer", "type": "int_parsing"},
    {"loc": ["body", 0], "msg": "Field required", "type": "missing"},
]


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({"detail": "No."}, "No."),
        ({"detail": FASTAPI}, "body.top_n: Input should be a valid integer; body.0: Field required"),
        ({"detail": {"message": "No."}}, "No."),
        ({"error": {"message": "No.", "type": "new_api_error", "param": "", "code": None}}, "No."),
        ({"error": "No.", "error_type": "Validation"}, "No."),
        ({"message": "No.", "id": "07734bd2"}, "No."),
        ({"detail": "", "error": None, "message": "No."}, "No."),
        ({"detail": 7, "error": [], "message": "No."}, "No."),
        ("Invalid token", "Invalid token"),
        ({}, None),
        ({"detail": [7, {"loc": ["body"]}], "error": {"message": 7}}, None),
        ("", None),
        (["No."], None),
        (None, None),
    ],
    ids=repr,
)
def test_the_message_is_found_wherever_it_stands(body: object, message: str | None) -> None:
    assert message_in(json.dumps(body).encode()) == message


@pytest.mark.parametrize("body", [b"", b"<html>", b"\xff", b"[" * 10**6, b'{"detail":' + b"[" * 10**5])
def test_what_is_no_error_of_any_format_has_no_message(body: bytes) -> None:
    assert message_in(body) is None


def test_a_detail_is_a_string_with_the_errors_own_status() -> None:
    status, body = render_detail(TooLarge("Too many."))
    assert (status, json.loads(body)) == (413, {"detail": "Too many."})
