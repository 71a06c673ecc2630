"""Which path speaks which wire format: the root paths, each format under its own prefix, and the doubled `/v1` of SDKs.

A path decides the format alone, but for `/rerank`, which several formats use: there the body and the headers tell.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import msgspec
from msgspec import UNSET, UnsetType

from rerankd.dialects.base import Dialect
from rerankd.dialects.directory import DIALECTS

Headers = Mapping[bytes, bytes]
Choose = Callable[[Headers, bytes], Dialect]

DOUBLED = "the base URL ends in /v1, and the client adds its own: leave it out of the base URL"


@dataclass(frozen=True)
class RerankRoute:
    """`dialects` are those that are spoken there, the usual one first; `choose` says which one a request is in.

    `warning` is what its callers are told in a header.
    """

    path: str
    dialects: Sequence[Dialect]
    choose: Choose
    warning: str | None = None

    @property
    def dialect(self) -> Dialect:
        return self.dialects[0]


class _Texts(msgspec.Struct):
    texts: msgspec.Raw | UnsetType = UNSET
    documents: msgspec.Raw | UnsetType = UNSET


_texts = msgspec.json.Decoder(_Texts)


def rerank_routes() -> list[RerankRoute]:
    """All of them; no path comes twice."""
    return [
        *_at_the_root(),
        *(route for dialect in DIALECTS.values() if dialect.prefix for route in _prefixed(dialect)),
    ]


def prefixes() -> dict[str, Dialect]:
    """The first part of a prefixed path, and the dialect that speaks for it where no route does."""
    found: dict[str, Dialect] = {}
    for dialect in DIALECTS.values():
        if dialect.prefix:
            found.setdefault(dialect.prefix, dialect)
    return found


def _at_the_root() -> Iterator[RerankRoute]:
    local, superset, cohere = (DIALECTS[name] for name in ("local", "superset", "cohere_v2"))
    tei, pinecone = DIALECTS["tei"], DIALECTS["pinecone"]

    def of_three(headers: Headers, body: bytes) -> Dialect:
        if b"x-pinecone-api-version" in headers:
            return pinecone
        return tei if has_texts(body) else local

    yield RerankRoute("/rerank", (local, tei, pinecone), of_three)
    yield RerankRoute("/v1/rerank", (superset,), always(superset))
    yield RerankRoute("/v2/rerank", (cohere,), always(cohere))
    yield RerankRoute("/v1/v1/rerank", (superset,), always(superset), DOUBLED)
    yield RerankRoute("/v1/v2/rerank", (cohere,), always(cohere), DOUBLED)


def _prefixed(dialect: Dialect) -> Iterator[RerankRoute]:
    dialects: tuple[Dialect, ...] = (dialect,)
    choose = always(dialect)
    if dialect.name == "llamacpp":  # its server answers TEI's requests too, on the same paths
        tei = DIALECTS["tei"]
        dialects = (dialect, tei)

        def choose(_: Headers, body: bytes) -> Dialect:
            return tei if has_texts(body) else dialect

    for path in dialect.paths:
        yield RerankRoute(f"/{dialect.prefix}{_parameter(path)}", dialects, choose)
        if path.startswith(("/v1/", "/v2/")):
            yield RerankRoute(f"/{dialect.prefix}/v1{_parameter(path)}", dialects, choose, DOUBLED)


def _parameter(path: str) -> str:
    """A model's name may hold slashes."""
    return path.replace("{model}", "{model:path}")


def always(dialect: Dialect) -> Choose:
    return lambda _headers, _body: dialect


def has_texts(body: bytes) -> bool:
    """Whether the request calls its documents `texts`, as TEI does."""
    if b'"texts"' not in body:
        return False
    try:
        found = _texts.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return False
    return found.texts is not UNSET and found.documents is UNSET
