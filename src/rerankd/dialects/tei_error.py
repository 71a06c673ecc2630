"""TEI's errors: `{"error", "error_type"}`, but an empty body for a wrong key.

Its own failures are 424s, which another server would call 500, and whoever is refused for now gets a 429.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from rerankd.dialects.error_bodies import message_in
from rerankd.dialects.statuses import error_of
from rerankd.errors import (
    BadRequest,
    ClientError,
    DeadlineExceeded,
    Refused,
    RerankError,
    Unauthenticated,
    UpstreamError,
)

FAILED_DEPENDENCY = 424


class TeiError(msgspec.Struct):
    error: str
    error_type: str


def render(error: RerankError) -> tuple[int, bytes]:
    if isinstance(error, Unauthenticated):
        return error.status, b""
    status, kind = _status_and_type(error)
    return status, msgspec.json.encode(TeiError(error.message, kind))


def parse(status: int, headers: Mapping[str, str], body: bytes) -> RerankError:
    meant = UpstreamError.status if status == FAILED_DEPENDENCY else status
    return error_of(meant, headers, message_in(body))


def _status_and_type(error: RerankError) -> tuple[int, str]:
    if isinstance(error, ClientError):
        return 422 if isinstance(error, BadRequest) else error.status, "Validation"
    if isinstance(error, Refused):
        return 429, "Overloaded"
    return error.status if isinstance(error, DeadlineExceeded) else FAILED_DEPENDENCY, "Backend"
