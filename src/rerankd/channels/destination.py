"""Where requests go, and one exchange there: a request out and its answer back, on one connection.

aiohttp opens and keeps connections, writes heads and reads answers. Its session is left out: what that settles for each
request anew (redirects, cookies, the environment, which kind of body) is settled once for all of ours.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from io import BytesIO

import aiohttp
from aiohttp import hdrs
from aiohttp.client_proto import ResponseHandler
from aiohttp.http import RawResponseMessage, StreamWriter
from yarl import URL

from rerankd.channels.connections import protocol_of
from rerankd.channels.unpacking import read_body
from rerankd.version import __version__

CONNECT_TIMEOUT = aiohttp.ClientTimeout(total=None, sock_connect=5.0)
"""Seconds for reaching one address, so that a dead host is known long before a call's time is up."""
HEADERS = {
    "accept": "application/json",
    "accept-encoding": "gzip, identity",
    "content-type": "application/json",
    "user-agent": f"rerankd/{__version__}",
}
LARGE = 2**18


@dataclass(frozen=True, slots=True)
class Answer:
    """Whatever came back; the names of `headers` are in small letters."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class Destination:
    def __init__(self, connector: aiohttp.TCPConnector, url: str, proxy: str | None) -> None:
        """Both were judged before. To be made in the event loop of `connector`."""
        self._connector = connector
        there = URL(url)
        self._request = aiohttp.ClientRequest(  # what a connector wants to be asked with; its headers go out each time
            hdrs.METH_POST,
            there,
            headers=HEADERS,
            proxy=None if proxy is None else URL(proxy),
            proxy_headers=None if proxy is None else {hdrs.HOST: there.host_port_subcomponent or "", **HEADERS},
            loop=asyncio.get_running_loop(),
        )
        del self._request.headers[hdrs.CONTENT_LENGTH]  # that of no body
        through_proxy = proxy is not None and not self._request.is_ssl()
        target = str(self._request.url) if through_proxy else self._request.url.raw_path_qs
        self._line = f"{hdrs.METH_POST} {target} HTTP/1.1"

    async def post(self, body: bytes, headers: Mapping[str, str]) -> Answer:
        """The answer to `body`; `headers` stand in the place of our own. Nothing is sent twice.

        Raises `UpstreamMalformed` where the answer is too large, what aiohttp raises where there is none, and `ValueError`
        where a header cannot be one. The connection is kept only if both sides have said all that they had to say.
        """
        connection = await self._connector.connect(self._request, [], CONNECT_TIMEOUT)
        protocol = protocol_of(connection)
        writing, over = None, False
        try:
            protocol.set_response_params(read_until_eof=True, auto_decompress=False)
            writing = await self._send(protocol, body, headers)
            answer = await _answer(protocol)
            over = (writing is None or writing.done()) and not _unsent(protocol)
        finally:
            if writing is not None:
                writing.cancel()
            if over:
                connection.release()  # which closes it where more was said than the answer
            else:
                protocol.abort()  # to close it would be to wait until the upstream has read all, which it may never do
                connection.close()
        return answer

    async def _send(
        self, protocol: ResponseHandler, body: bytes, headers: Mapping[str, str]
    ) -> asyncio.Task[None] | None:
        """A large body goes out while we listen already: an upstream may answer before it has read all of it."""
        named = self._request.headers.copy()
        for name, value in headers.items():
            named[name] = value
        named[hdrs.CONTENT_LENGTH] = str(len(body))
        writer = StreamWriter(protocol, asyncio.get_running_loop())
        await writer.write_headers(self._line, named)  # refuses what would end a header
        if len(body) >= LARGE:
            return asyncio.create_task(_write_in_pieces(writer, body))
        await writer.write(body, drain=False)
        return None


async def _write_in_pieces(writer: StreamWriter, body: bytes) -> None:
    """Others have their turn between them. Where the connection breaks, whoever reads from it is told."""
    with suppress(OSError):
        await aiohttp.BytesIOPayload(BytesIO(body)).write(writer)


async def _answer(protocol: ResponseHandler) -> Answer:
    message, content = await protocol.read()
    while _is_interim(message):
        message, content = await protocol.read()
    headers = {name.lower(): value for name, value in message.headers.items()}
    return Answer(message.code, headers, await read_body(message.headers, content))


def _is_interim(message: RawResponseMessage) -> bool:
    """Whether the answer itself is still to come; after 101 no HTTP is."""
    return 100 <= message.code < 200 and message.code != 101


def _unsent(protocol: ResponseHandler) -> bool:
    return protocol.transport is not None and protocol.transport.get_write_buffer_size() > 0
