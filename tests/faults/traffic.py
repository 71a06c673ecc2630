"""Clients that ask a server under a key, one request after the other, and remember what they were given."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Callable
from contextlib import closing, suppress
from dataclasses import dataclass, field

CLIENTS = 8
PATIENCE = 30.0


@dataclass
class Traffic:
    """What was sent; by request id, what was answered with 200 and its tokens; and how many were answered otherwise."""

    key: str
    sent: set[str] = field(default_factory=set)
    answered: dict[str, int] = field(default_factory=dict)
    refused: Counter[int] = field(default_factory=Counter)

    def request(self, client: int) -> tuple[str, bytes]:
        request_id = f"{client}-{len(self.sent)}"
        self.sent.add(request_id)
        documents = [f"document {number} of {request_id}" for number in range(1 + len(self.sent) % 5)]
        return request_id, self.post(request_id, {"query": "a query", "documents": documents})

    def post(self, request_id: str, fields: object) -> bytes:
        body = json.dumps(fields)
        head = (
            f"POST /v1/rerank HTTP/1.1\r\nhost: test\r\nauthorization: Bearer {self.key}\r\nx-request-id: {request_id}\r\n"
            f"content-length: {len(body)}\r\n\r\n"
        )
        return (head + body).encode()

    async def until(self, enough: Callable[[], bool]) -> None:
        async with asyncio.timeout(PATIENCE):
            while not enough():
                await asyncio.sleep(0.005)

    async def more(self, answers: int = CLIENTS) -> None:
        """Until there were so many more."""
        before = len(self.answered)
        await self.until(lambda: len(self.answered) >= before + answers)


async def client(number: int, port: int, traffic: Traffic) -> None:
    """One request after the other, until the server is gone. A 200 counts as soon as its head was seen."""
    with suppress(OSError, asyncio.IncompleteReadError):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        with closing(writer):
            while True:
                request_id, request = traffic.request(number)
                writer.write(request)
                head, status = await head_from(reader)
                if status == 200:
                    assert "x-ratelimit-remaining-documents: " in head, "the key's limits were not asked"
                    traffic.answered[request_id] = 0
                else:
                    traffic.refused[status] += 1
                length = int(head.partition("content-length: ")[2].split("\r\n", 1)[0])
                body = json.loads(await reader.readexactly(length))
                if status == 200:
                    traffic.answered[request_id] = body["usage"]["total_tokens"]


async def head_from(reader: asyncio.StreamReader) -> tuple[str, int]:
    """In lower case, and its status."""
    head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
    return head, int(head.split(" ", 2)[1])
