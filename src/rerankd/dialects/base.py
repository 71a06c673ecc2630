"""What a codec is: one wire format in both directions, as pure functions between bytes and the vocabulary."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from rerankd.errors import RerankError
from rerankd.types import Call, RerankRequest, RerankResponse


class Dialect(Protocol):
    @property
    def name(self) -> str: ...

    @property
    def default_model(self) -> str | None:
        """The model that this format's documentation promises to a request that names none."""
        ...

    @property
    def request_losses(self) -> frozenset[str]:
        """Fields of `RerankRequest` that the format cannot carry."""
        ...

    @property
    def response_losses(self) -> frozenset[str]:
        """Fields of `RerankResponse` that the format cannot carry, `usage.cached_tokens` and the like included."""
        ...

    def parse_request(self, body: bytes) -> RerankRequest:
        """Raises `BadRequest`, naming the field, or the line and column."""
        ...

    def render_request(self, request: RerankRequest) -> bytes: ...

    def render_response(self, response: RerankResponse, request: RerankRequest, call: Call) -> bytes: ...

    def parse_response(self, body: bytes, request: RerankRequest) -> RerankResponse:
        """Results as they stand in the body, unchecked. Raises `UpstreamMalformed`."""
        ...

    def render_error(self, error: RerankError) -> tuple[int, bytes]:
        """The HTTP status and the body."""
        ...

    def parse_error(self, status: int, headers: Mapping[str, str], body: bytes) -> RerankError: ...

    def schemas(self) -> tuple[type[Any], type[Any]]:
        """The msgspec types of the request and the response, from which OpenAPI is written."""
        ...
