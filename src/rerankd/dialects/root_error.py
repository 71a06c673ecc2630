"""The error body of the root paths: one that Jina, New API and Cohere clients each find their message in.

Jina's clients read `detail`, Cohere's `message`, OpenAI-like ones `error`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

import msgspec

from rerankd.errors import RerankError, UpstreamError


class ErrorDetail(msgspec.Struct):
    message: str
    type: str
    code: str
    param: str | None = None


class ErrorBody(msgspec.Struct):
    """Every error of the root paths has this shape."""

    detail: str
    message: str
    error: ErrorDetail


_decoder = msgspec.json.Decoder(ErrorBody)


def render(error: RerankError) -> tuple[int, bytes]:
    kind = "invalid_request_error" if error.status < 500 else "server_error"
    detail = ErrorDetail(message=error.message, type=kind, code=error.code, param=error.param)
    return error.status, msgspec.json.encode(ErrorBody(error.message, error.message, detail))


def parse(status: int, headers: Mapping[str, str], body: bytes) -> RerankError:
    """The error that was rendered; `UpstreamError` where the body is none of ours."""
    try:
        detail = _decoder.decode(body).error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return UpstreamError(f"The upstream answered with status {status} and no error that can be read.")
    cls = next((cls for cls in _classes(RerankError) if (cls.code, cls.status) == (detail.code, status)), UpstreamError)
    return cls(detail.message, param=detail.param, retry_after=_seconds(headers.get("retry-after")))


def _classes(cls: type[RerankError]) -> Iterator[type[RerankError]]:
    for child in cls.__subclasses__():
        yield from _classes(child)
    yield cls


def _seconds(value: str | None) -> float | None:
    return float(value) if value is not None and re.fullmatch(r"[0-9]{1,9}", value) else None
