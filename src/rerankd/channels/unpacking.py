"""The body of an answer, unpacked and never larger than it may be: a bomb is noticed before it takes any memory."""

from __future__ import annotations

import zlib
from collections.abc import Mapping

import aiohttp

from rerankd.errors import UpstreamMalformed

MAX_ANSWER = 8 * 2**20
"""Bytes of an answer, after it is unpacked."""
STEP = 2**18
"""Bytes that are unpacked at a time."""
GZIP = 16 + zlib.MAX_WBITS


async def read_body(headers: Mapping[str, str], content: aiohttp.StreamReader) -> bytes:
    """The body, unpacked. Raises `UpstreamMalformed` as soon as it is too large."""
    encoding = headers.get("content-encoding", "identity").strip().lower()
    if encoding not in ("", "identity", "gzip", "x-gzip"):
        raise UpstreamMalformed("The upstream's answer is packed in a way that was not asked for.")
    unpacked = _Gzip() if "gzip" in encoding else _Plain()
    received = 0
    while not content.at_eof():
        chunk = await content.readany()
        received += len(chunk)
        if received > MAX_ANSWER:  # of packed bytes too: there is gzip of any length that unpacks to nothing
            raise _too_large()
        unpacked.take(chunk)
    return unpacked.finished()


class _Plain:
    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self._room = MAX_ANSWER

    def take(self, chunk: bytes) -> None:
        self._room -= len(chunk)
        if self._room < 0:
            raise _too_large()
        self._parts.append(chunk)

    def finished(self) -> bytes:
        return b"".join(self._parts)


class _Gzip(_Plain):
    """Unpacks in steps and only while there is room, so that a bomb never goes off."""

    def __init__(self) -> None:
        super().__init__()
        self._member = zlib.decompressobj(GZIP)

    def take(self, chunk: bytes) -> None:
        full = False
        try:
            while chunk or full:  # a full step may have left something behind without any input that belongs to it
                if self._member.eof:
                    self._member = zlib.decompressobj(GZIP)
                piece = self._member.decompress(chunk, STEP)
                super().take(piece)
                full = len(piece) == STEP and not self._member.eof
                chunk = self._member.unconsumed_tail or self._member.unused_data
        except zlib.error:
            raise UpstreamMalformed("The upstream's answer is not the gzip that it says it is.") from None

    def finished(self) -> bytes:
        if not self._member.eof:
            raise UpstreamMalformed("The upstream's answer ends in the middle of its gzip.")
        return super().finished()


def _too_large() -> UpstreamMalformed:
    return UpstreamMalformed(f"The upstream's answer is larger than {MAX_ANSWER} bytes.")
