"""A rerank server that always gives the same answer in Jina's format: what is left of a gateway's time is the gateway's own.

    python benchmarks/static_upstream.py PORT

It reads no more of a request than where it ends. GET /count says how many there have been.
"""

from __future__ import annotations

import asyncio
import json
import sys
from typing import cast

import uvloop

DOCUMENTS = 10
END_OF_HEAD = b"\r\n\r\n"
LENGTH = b"content-length:"


def answer() -> bytes:
    """Ten documents, the last of the request first."""
    results = [{"index": DOCUMENTS - 1 - place, "relevance_score": 0.9 - place / 20} for place in range(DOCUMENTS)]
    usage = {"prompt_tokens": 560, "total_tokens": 560}
    return _whole(json.dumps({"model": "static", "object": "list", "usage": usage, "results": results}).encode())


def _whole(body: bytes) -> bytes:
    return b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%s" % (len(body), body)


class Upstream(asyncio.Protocol):
    count = 0
    answer = answer()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)  # uvloop's is none by its class
        self.received = b""

    def data_received(self, data: bytes) -> None:
        self.received += data
        while (length := self._length()) is not None and len(self.received) >= length:
            self._answer(self.received.startswith(b"GET "))
            self.received = self.received[length:]

    def _length(self) -> int | None:
        """Of the first request that has arrived, or None while its head has not."""
        end = self.received.find(END_OF_HEAD)
        if end < 0:
            return None
        head = self.received[:end].lower()
        at = head.find(LENGTH)
        body = int(head[at + len(LENGTH) :].split(b"\r\n", 1)[0]) if at >= 0 else 0
        return end + len(END_OF_HEAD) + body

    def _answer(self, asks_for_count: bool) -> None:
        if asks_for_count:
            self.transport.write(_whole(b"%d" % Upstream.count))
            return
        Upstream.count += 1
        self.transport.write(self.answer)


async def serve(port: int) -> None:
    server = await asyncio.get_running_loop().create_server(Upstream, "127.0.0.1", port)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(serve(int(sys.argv[1])))
