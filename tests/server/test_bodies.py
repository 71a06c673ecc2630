from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from starlette.requests import ClientDisconnect
from starlette.types import Message

from rerankd.errors import TooLarge, UnsupportedMedia
from rerankd.server.bodies import by_name, read_body


class Incoming:
    """A request whose body comes in `pieces`; counts those that were asked for."""

    def __init__(self, *pieces: bytes, ends: bool = True, **headers: str) -> None:
        self.read = 0
        self._messages = self._send(pieces, ends)
        self.headers = {name.replace("_", "-").encode(): value.encode() for name, value in headers.items()}

    async def body(self, limit: int) -> bytes:
        return await read_body(self.headers, self._receive, limit)

    async def _send(self, pieces: tuple[bytes, ...], ends: bool) -> AsyncIterator[Message]:
        for piece in pieces:
            yield {"type": "http.request", "body": piece, "more_body": True}
        yield {"type": "http.request", "body": b""} if ends else {"type": "http.disconnect"}

    async def _receive(self) -> Message:
        self.read += 1
        return await anext(self._messages)


async def test_a_body_is_put_together_from_its_pieces() -> None:
    assert await Incoming(b"one ", b"", b"two").body(7) == b"one two"


async def test_a_body_may_be_empty() -> None:
    assert await Incoming(content_length="0").body(10) == b""


async def test_a_body_that_says_it_is_too_large_is_not_read_at_all() -> None:
    incoming = Incoming(b"x" * 11, content_length="11")
    with pytest.raises(TooLarge, match="10 bytes"):
        await incoming.body(10)
    assert incoming.read == 0


async def test_a_body_that_does_not_say_its_size_is_read_until_it_is_too_large() -> None:
    incoming = Incoming(*[b"x" * 4] * 1000)
    with pytest.raises(TooLarge):
        await incoming.body(10)
    assert incoming.read == 3


async def test_a_body_that_lies_about_its_size_is_read_until_it_is_too_large() -> None:
    incoming = Incoming(*[b"x" * 4] * 1000, content_length="4")
    with pytest.raises(TooLarge):
        await incoming.body(10)
    assert incoming.read == 3


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "br", "zstd", "GZIP", "gzip, identity"])
async def test_a_compressed_body_is_refused_unread(encoding: str) -> None:
    incoming = Incoming(b"x", content_encoding=encoding)
    with pytest.raises(UnsupportedMedia):
        await incoming.body(10)
    assert incoming.read == 0


@pytest.mark.parametrize("encoding", ["identity", "Identity", " identity ", ""])
async def test_a_body_that_says_it_is_not_compressed_is_read(encoding: str) -> None:
    assert await Incoming(b"x", content_encoding=encoding).body(10) == b"x"


async def test_a_client_that_goes_in_the_middle_of_its_body_is_no_empty_body() -> None:
    with pytest.raises(ClientDisconnect):
        await Incoming(b"x", ends=False).body(10)


async def test_a_length_of_thousands_of_digits_is_too_large() -> None:
    with pytest.raises(TooLarge):
        await Incoming(content_length="9" * 5000).body(10)


def test_of_headers_that_come_twice_the_first_counts() -> None:
    assert by_name([(b"x", b"1"), (b"y", b"2"), (b"x", b"3")]) == {b"x": b"1", b"y": b"2"}
