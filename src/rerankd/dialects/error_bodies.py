"""The error body `{"detail": "..."}` of Jina, Voyage and Xinference, and how a message is found in what an upstream sends.

Who answers is not always who was asked: before one server stands another, and its errors have a shape of their own.
"""

from __future__ import annotations

from typing import Any

import msgspec

from rerankd.dialects.statuses import read
from rerankd.errors import RerankError


class DetailError(msgspec.Struct):
    detail: str


class AnyError(msgspec.Struct):
    """`detail` of Jina, Voyage and FastAPI, `error` of New API and whoever follows OpenAI, `message` of Cohere."""

    detail: Any = None
    error: Any = None
    message: Any = None


_bodies: msgspec.json.Decoder[AnyError | str] = msgspec.json.Decoder(AnyError | str)


def render_detail(error: RerankError) -> tuple[int, bytes]:
    return error.status, msgspec.json.encode(DetailError(error.message))


def message_in(body: bytes) -> str | None:
    """The message of an error's body, or of one that is a JSON string; None where there is none."""
    found = read(_bodies, body)
    if found is None or isinstance(found, str):
        return found or None
    return _said(found.detail) or _said(found.error) or _said(found.message)


def _said(value: object) -> str | None:
    """FastAPI has a list of all that is wrong in a request."""
    parts = value if isinstance(value, list) else [value]
    return "; ".join(filter(None, map(_part, parts))) or None


def _part(value: object) -> str:
    if not isinstance(value, dict):
        return value if isinstance(value, str) else ""
    message = value.get("message") or value.get("msg")
    if not isinstance(message, str):
        return ""
    place = value.get("loc")
    return f"{'.'.join(map(str, place))}: {message}" if isinstance(place, list) else message
