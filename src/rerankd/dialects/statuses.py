"""What an upstream's error is to us: the class that policies react to, by its HTTP status, with its own message.

A caller's mistake stays one, a refusal keeps the time after which to try again, and whatever else fails there is an
`UpstreamError` here: somebody else's bug is not ours.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TypeVar

import msgspec

from rerankd.errors import (
    BadRequest,
    ClientError,
    DeadlineExceeded,
    Forbidden,
    MethodNotAllowed,
    NotFound,
    Overloaded,
    RateLimited,
    RequestTimeout,
    RerankError,
    TooLarge,
    Unauthenticated,
    UnsupportedMedia,
    UpstreamError,
)

Shape = TypeVar("Shape")

LONGEST_MESSAGE = 1000
CLASSES: Mapping[int, type[RerankError]] = {
    400: BadRequest,
    401: Unauthenticated,
    403: Forbidden,
    404: NotFound,
    405: MethodNotAllowed,
    408: RequestTimeout,
    413: TooLarge,
    415: UnsupportedMedia,
    422: BadRequest,
    429: RateLimited,
    503: Overloaded,
    504: DeadlineExceeded,
}


def error_of(status: int, headers: Mapping[str, str], message: str | None, *, param: str | None = None) -> RerankError:
    """The error of that status; `message` None says that the body held none that could be read."""
    kind = CLASSES.get(status, ClientError if 400 <= status < 500 else UpstreamError)
    said = message or f"The upstream answered with status {status} and no error that can be read."
    return kind(said[:LONGEST_MESSAGE], param=param, retry_after=retry_after(headers))


def read(decoder: msgspec.json.Decoder[Shape], body: bytes) -> Shape | None:
    """An error's body as the decoder's type, or None where it is something else."""
    try:
        return decoder.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds, from `retry-after` in its number form, or from `retry-after-ms`; the names are in small letters."""
    milliseconds = headers.get("retry-after-ms", "")
    if re.fullmatch(r"[0-9]{1,12}", milliseconds):
        return int(milliseconds) / 1000
    seconds = headers.get("retry-after", "")
    return float(seconds) if re.fullmatch(r"[0-9]{1,9}(\.[0-9]{1,6})?", seconds) else None
