"""Connections to upstreams: to judged addresses alone, kept for the next call, and given up where one was spoiled."""

from __future__ import annotations

import asyncio
import select
import socket
from typing import Any, cast
from weakref import WeakKeyDictionary

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
        self._polls: WeakKeyDictionary[ResponseHandler, select.poll] = WeakKeyDictionary()

    async def connect(
        self, req: aiohttp.ClientRequest, traces: list[Trace], timeout: aiohttp.ClientTimeout
    ) -> Connection:
        while True:
            connection = await super().connect(req, traces, timeout)
            protocol = protocol_of(connection)
            poll = self._polls.get(protocol)
            if poll is None:
                self._polls[protocol] = _poll_for(connection)
                return connection
            if poll.poll(0):  # which is rare: one look at the socket is enough nearly always
                await _let_it_be_read(connection)
            if protocol.is_connected() and not protocol.should_close:
                return connection
            connection.close()


def protocol_of(connection: Connection) -> ResponseHandler:
    """What reads from it and knows its transport; there is one until the connection is given back."""
    return cast(ResponseHandler, connection.protocol)


def _poll_for(connection: Connection) -> select.poll:
    """Knows whether the system has anything of this connection that the event loop has not seen: a byte, or its end."""
    poll = select.poll()
    known = None if connection.transport is None else connection.transport.get_extra_info("socket")
    if known is not None and known.fileno() >= 0:  # else the connection is lost already
        poll.register(known.fileno(), select.POLLIN)
    return poll


async def _let_it_be_read(connection: Connection) -> None:
    try:
        for _ in range(2):  # rounds of the loop: in the first one it looks at the sockets, in the second it reads
            await asyncio.sleep(0)
    except asyncio.CancelledError:
        connection.close()
        raise


def open_connector(resolver: GuardedResolver) -> aiohttp.TCPConnector:
    def socket_to(address: Any) -> socket.socket:
        """The last look at an address, at the moment of connecting."""
        family, kind, protocol, _, target = address
        resolver.check(target[0])
        return socket.socket(family, kind, protocol)

    return _Unspoiled(limit=MOST_CONNECTIONS, resolver=resolver, socket_factory=socket_to)
