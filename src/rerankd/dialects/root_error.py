"""The error body of the root paths: one that Jina, New API and Cohere clients each find their message in.

Jina's clients read `detail`, Cohere's `message`, OpenAI-like ones `error`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import msgspec

from rerankd.dialects.statuses import error_of, read, retry_after
from rerankd.errors import RateLimited, RerankError, Unauthenticated


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
    detail = ErrorDetail(message=error.message, type=kind_of(error), code=error.code, param=error.param)
    return error.status, msgspec.json.encode(ErrorBody(error.message, error.message, detail))


def kind_of(error: RerankError) -> str:
    """OpenAI's kind of an error; litellm takes a wrong key for a bad request unless it is named as such."""
    if isinstance(error, Unauthenticated):
        return "authentication_error"
    if isinstance(error, RateLimited):
        return "rate_limit_error"
    return "invalid_request_error" if error.status < 500 else "server_error"


def parse(status: int, headers: Mapping[str, str], body: bytes) -> RerankError:
    """The error that was rendered, by its code; where the body is none of ours, the one of its status."""
    found = read(_decoder, body)
    if found is None:
        return error_of(status, headers, None)
    detail = found.error
    known = (cls for cls in _classes(RerankError) if (cls.code, cls.status) == (detail.code, status))
    cls = next(known, None)
    if cls is None:
        return error_of(status, headers, detail.message, param=detail.param)
    return cls(detail.message, param=detail.param, retry_after=retry_after(headers))


def _classes(cls: type[RerankError]) -> Iterator[type[RerankError]]:
    """Those of the tree: what somebody makes of one elsewhere has its code, and is nobody's outside."""
    for child in cls.__subclasses__():
        if child.__module__ == RerankError.__module__:
            yield from _classes(child)
    yield cls
