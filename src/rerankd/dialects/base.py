"""What a codec is: one wire format in both directions, as pure functions between bytes and the vocabulary."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from rerankd.errors import RerankError
from rerankd.types import Call, RerankRequest, RerankResponse


class Named(Protocol):
    """`title` is the format's name for people, `prefix` the path under which we serve it. `paths` are where its servers
    answer, the usual one first; `{model}` stands for the model's name where that is part of the path.
    """

    @property
    def name(self) -> str: ...

    @property
    def title(self) -> str: ...

    @property
    def prefix(self) -> str: ...

    @property
    def paths(self) -> Sequence[str]: ...

    @property
    def request_losses(self) -> Mapping[str, object]:
        """Fields of `RerankRequest` that the format cannot carry, and what a server that speaks it does instead."""
        ...

    @property
    def response_losses(self) -> frozenset[str]:
        """Fields of `RerankResponse` that the format cannot carry, `usage.cached_tokens` and the like included."""
        ...


class Served(Named, Protocol):
    """The half that answers clients."""

    @property
    def default_model(self) -> str | None:
        """The model that this format's documentation promises to a request that names none."""
        ...

    def parse_request(self, body: bytes) -> RerankRequest:
        """Raises `BadRequest`, naming the field, or the line and column."""
        ...

    def render_response(self, response: RerankResponse, request: RerankRequest, call: Call) -> bytes: ...

    def response_headers(self, response: RerankResponse, request: RerankRequest, call: Call) -> Mapping[str, str]:
        """What the format says beside the body."""
        ...

    def render_error(self, error: RerankError, request_id: str) -> tuple[int, bytes]:
        """The HTTP status and the body."""
        ...

    def schemas(self) -> tuple[Any, Any]:
        """The types of the request and the response that msgspec reads and writes, from which OpenAPI is written."""
        ...


class Called(Named, Protocol):
    """The half that asks upstreams."""

    def render_request(self, request: RerankRequest) -> bytes: ...

    def parse_response(self, body: bytes, headers: Mapping[str, str], request: RerankRequest) -> RerankResponse:
        """Results as they stand in the body, unchecked; the names of `headers` are in small letters. Raises
        `UpstreamMalformed`.
        """
        ...

    def parse_error(self, status: int, headers: Mapping[str, str], body: bytes) -> RerankError: ...


class Dialect(Served, Called, Protocol):
    """Both halves."""


class Codec:
    """What most formats have in common: nothing is promised, and nothing is said beside the body."""

    name: str
    default_model: str | None = None
    request_losses: Mapping[str, object] = {}
    response_losses: frozenset[str] = frozenset()

    @property
    def prefix(self) -> str:
        return self.name

    def response_headers(self, response: RerankResponse, request: RerankRequest, call: Call) -> Mapping[str, str]:
        return {}
