"""A connection whose bytes the test writes itself, and the answers that come back on it."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

PATIENCE = 10.0
BODY = b'{"query":"capital of France","documents":["The sky is blue.","Paris is the capital of France."]}'


def head(path: str = "/rerank", *, length: int = len(BODY), extra: str = "") -> bytes:
    """The head of a POST with a body of `length` bytes; `extra` are further lines, each with its end."""
    return f"POST {path} HTTP/1.1\r\nhost: test\r\ncontent-length: {length}\r\n{extra}\r\n".encode()


GOOD = head() + BODY


@dataclass(frozen=True)
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)


class Wire:
    """A bare socket: what the server has said can be read even after it has closed on what the test still sends."""

    def __init__(self, connected: socket.socket) -> None:
        self._socket = connected
        self._loop = asyncio.get_running_loop()
        self._received = bytearray()

    async def send(self, data: bytes) -> None:
        """Raises `ConnectionError` where the server has closed."""
        async with asyncio.timeout(PATIENCE):
            await self._loop.sock_sendall(self._socket, data)

    async def answer(self) -> Answer:
        """Raises `ConnectionError` where the server closes before the answer is whole."""
        async with asyncio.timeout(PATIENCE):
            lines = (await self._take_until(b"\r\n\r\n")).decode("latin-1").split("\r\n")
            headers = {name.lower(): value for name, value in (line.split(": ", 1) for line in lines[1:] if line)}
            body = await self._take(int(headers.get("content-length", "0")))
        return Answer(int(lines[0].split()[1]), headers, body)

    async def some(self, most: int) -> bytes:
        """The next piece, as it comes; nothing where the server has closed."""
        async with asyncio.timeout(PATIENCE):
            return await self._loop.sock_recv(self._socket, most)

    async def until_closed(self, within: float) -> bytes:
        """What still comes before the server closes. Raises `TimeoutError` where it does not close."""
        async with asyncio.timeout(within):
            while await self._receive():
                pass
        return await self._take(len(self._received))

    async def drip(self, data: bytes, pause: float = 0.1) -> int:
        """Send a byte at a time until the server closes; how many it took."""
        for sent in range(len(data)):
            try:
                await self.send(data[sent : sent + 1])
            except ConnectionError:
                return sent
            await asyncio.sleep(pause)
        return len(data)

    async def _receive(self) -> bool:
        try:
            data = await self._loop.sock_recv(self._socket, 65536)
        except ConnectionError:
            return False
        self._received += data
        return bool(data)

    async def _take_until(self, end: bytes) -> bytes:
        while end not in self._received:
            if not await self._receive():
                raise ConnectionError("closed")
        return await self._take(self._received.index(end) + len(end))

    async def _take(self, size: int) -> bytes:
        while len(self._received) < size:
            if not await self._receive():
                raise ConnectionError("closed")
        taken = bytes(self._received[:size])
        del self._received[:size]
        return taken


@asynccontextmanager
async def wire(port: int) -> AsyncIterator[Wire]:
    with socket.socket() as connected:
        connected.setblocking(False)
        await asyncio.get_running_loop().sock_connect(connected, ("127.0.0.1", port))
        yield Wire(connected)
