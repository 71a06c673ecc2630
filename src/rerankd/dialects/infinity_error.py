"""Infinity's errors: FastAPI's list of what is wrong in a request, {"detail": "Unauthorized"}, and OpenAI's object.

Its generated client fails on a 422 whose `detail` is no list.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import msgspec

from rerankd.dialects import openai_shapes
from rerankd.dialects.openai_shapes import ErrorBody, ErrorDetail
from rerankd.dialects.statuses import error_of, read
from rerankd.errors import BadRequest, RerankError, Unauthenticated

UNPROCESSABLE = 422


class BadParameter(msgspec.Struct):
    loc: list[str | int]
    msg: str
    type: str = "value_error"


class BadParameters(msgspec.Struct):
    detail: list[BadParameter]


class WrongKey(msgspec.Struct):
    """`detail` is the constant of the real server; why the key was refused stands in `error`."""

    error: ErrorDetail
    detail: str = "Unauthorized"


_bad_parameters = msgspec.json.Decoder(BadParameters)


def render(error: RerankError) -> tuple[int, bytes]:
    if isinstance(error, BadRequest):
        wrong = BadParameter(["body", *_steps(error.param or "")], error.message)
        return UNPROCESSABLE, msgspec.json.encode(BadParameters([wrong]))
    detail = openai_shapes.detail_of(error, error.code)
    body = WrongKey(detail) if isinstance(error, Unauthenticated) else ErrorBody(detail)
    return error.status, msgspec.json.encode(body)


def parse(status: int, headers: Mapping[str, str], body: bytes) -> RerankError:
    found = read(_bad_parameters, body)
    if found is None or not found.detail:
        return openai_shapes.parse_error(status, headers, body)
    message = "; ".join(wrong.msg for wrong in found.detail)
    return error_of(status, headers, message, param=_path(found.detail[0].loc))


def _steps(param: str) -> list[str | int]:
    """`documents[3].text` as FastAPI has it: "documents", 3, "text"."""
    return [int(step) if step.isdecimal() else step for step in re.findall(r"[^.\[\]]+", param)]


def _path(loc: Sequence[str | int]) -> str | None:
    path = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in loc if step != "body")
    return path.removeprefix(".") or None
