"""A request's body, read under a limit: what is too large is refused before it is read whole."""

from __future__ import annotations

from starlette.requests import Request

from rerankd.errors import TooLarge, UnsupportedMedia

LONGEST_LENGTH = 20


async def read_body(request: Request, limit: int) -> bytes:
    """Raises `UnsupportedMedia` for a compressed body, `TooLarge` for one of more than `limit` bytes."""
    encoding = request.headers.get("content-encoding", "identity").strip().lower()
    if encoding not in ("", "identity"):
        raise UnsupportedMedia(f"The body is compressed ({encoding[:20]}); send it as it is.")
    stated = request.headers.get("content-length", "")
    if stated.isascii() and stated.isdigit() and (len(stated) > LONGEST_LENGTH or int(stated) > limit):
        raise _too_large(limit)
    body = bytearray()
    async for chunk in request.stream():
        if len(body) + len(chunk) > limit:
            raise _too_large(limit)
        body += chunk
    return bytes(body)


def _too_large(limit: int) -> TooLarge:
    return TooLarge(f"The body is larger than the {limit} bytes that are allowed here (server.max_body).")
