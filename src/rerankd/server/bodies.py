"""A request's body, read under a limit: what is too large is refused before it is read whole."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from starlette.requests import ClientDisconnect
from starlette.types import Receive

from rerankd.errors import TooLarge, UnsupportedMedia

LONGEST_LENGTH = 20


def by_name(headers: Iterable[tuple[bytes, bytes]]) -> dict[bytes, bytes]:
    """A request's headers; of those that come several times the first counts."""
    return dict(reversed([*headers]))


async def read_body(headers: Mapping[bytes, bytes], receive: Receive, limit: int) -> bytes:
    """Raises `UnsupportedMedia` for a compressed body, `TooLarge` for one of more than `limit` bytes, and `ClientDisconnect`
    where its end never comes.
    """
    encoding = headers.get(b"content-encoding", b"identity").strip().lower()
    if encoding not in (b"", b"identity"):
        named = encoding[:20].decode("latin-1")
        raise UnsupportedMedia(f"The body is compressed ({named}); send it as it is.")
    stated = headers.get(b"content-length", b"")
    if stated.isdigit() and (len(stated) > LONGEST_LENGTH or int(stated) > limit):
        raise _too_large(limit)
    body, more = bytearray(), True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        more = message.get("more_body", False)
        body += message.get("body", b"")
        if len(body) > limit:
            raise _too_large(limit)
    return bytes(body)


def _too_large(limit: int) -> TooLarge:
    return TooLarge(f"The body is larger than the {limit} bytes that are allowed here (server.max_body).")
