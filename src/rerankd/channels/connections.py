"""Connections to upstreams: to judged addresses alone, kept for the next call, and given up where one was spoiled."""

from __future__ import annotations

import asyncio
import select
import socket
from typing import Any, cast
from weakref import WeakSet

import aiohttp
from aiohttp.client_proto import ResponseHandler
from aiohttp.connector import Connection
from aiohttp.tracing import Trace

from rerankd.channels.guard import GuardedResolver

MOST_CONNECTIONS = 1024


class _Unspoiled(aiohttp.TCPConnector):
    """Gives out a connection that was kept only where nothing has been said on it since.

    What an upstream says unasked would else be taken for the answer to the next request, with the scores of another one.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._known: WeakSet[Any] = WeakSet()

    async def connect(
        self, req: aiohttp.ClientRequest, traces: list[Trace], timeout: aiohttp.ClientTimeout
    ) -> Connection:
        while True:
            connection = await super().connect(req, traces, timeout)
            if connection.protocol not in self._known:
                self._known.add(connection.protocol)
                return connection
            if await _is_silent(connection):
                return connection
            connection.close()


async def _is_silent(connection: Connection) -> bool:
    """One look at the socket is enough where there is nothing to read, which is nearly always."""
    if _nothing_to_read(connection):
        return _is_usable(connection)
    try:
        for _ in range(2):  # rounds of the loop: in the first one it looks at the sockets, in the second it reads
            await asyncio.sleep(0)
    except asyncio.CancelledError:
        connection.close()
        raise
    return _is_usable(connection)


def _is_usable(connection: Connection) -> bool:
    protocol = connection.protocol
    return protocol is not None and protocol.is_connected() and not protocol.should_close


def _nothing_to_read(connection: Connection) -> bool:
    """Whether the system has nothing of this connection that the event loop has not seen: no byte, and no end."""
    known = None if connection.transport is None else connection.transport.get_extra_info("socket")
    if known is None or known.fileno() < 0:
        return False
    poll = select.poll()
    poll.register(known.fileno(), select.POLLIN)
    return not poll.poll(0)


def protocol_of(connection: Connection) -> ResponseHandler:
    """What reads from it and knows its transport; there is one until the connection is given back."""
    return cast(ResponseHandler, connection.protocol)


def open_connector(resolver: GuardedResolver) -> aiohttp.TCPConnector:
    def socket_to(address: Any) -> socket.socket:
        """The last look at an address, at the moment of connecting."""
        family, kind, protocol, _, target = address
        resolver.check(target[0])
        return socket.socket(family, kind, protocol)

    return _Unspoiled(limit=MOST_CONNECTIONS, resolver=resolver, socket_factory=socket_to)
