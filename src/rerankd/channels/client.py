"""The one way out: a POST to an upstream under bounds of time and size, to a destination that was judged.

No redirect is followed, no cookie kept, no proxy taken from the environment. What comes back is an answer whatever its
status; everything else is an error of ours, without a word of the upstream's.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Protocol

import aiohttp
from aiohttp.abc import AbstractResolver

from rerankd.channels.connections import open_connector
from rerankd.channels.destination import Answer as Answer
from rerankd.channels.destination import Destination
from rerankd.channels.guard import GuardedResolver, check_url
from rerankd.errors import RerankError, UpstreamMalformed, UpstreamUnavailable
from rerankd.policies.time_limit import TimeLimit

log = logging.getLogger("rerankd.channels")

MOST_REMEMBERED = 1024
"""Destinations that are not judged again."""


class Poster(Protocol):
    """What a channel needs of a client."""

    async def post(
        self,
        url: str,
        body: bytes,
        headers: Mapping[str, str],
        *,
        timeout: float,
        proxy: str | None,
        allow_private: bool,
    ) -> Answer: ...


class Client:
    """One for a process. It may be made anywhere and is used in one event loop, in which its connections are kept."""

    def __init__(self, resolver: AbstractResolver | None = None) -> None:
        """`resolver` finds the addresses of names; by default the system does. They are judged in any case."""
        self._resolver = resolver
        self._connectors: dict[bool, aiohttp.TCPConnector] = {}
        self._destination = lru_cache(MOST_REMEMBERED)(self._judged_destination)

    async def post(
        self,
        url: str,
        body: bytes,
        headers: Mapping[str, str],
        *,
        timeout: float,
        proxy: str | None = None,
        allow_private: bool = False,
    ) -> Answer:
        """The answer within `timeout` seconds, all of it.

        Raises `UpstreamUnavailable` where none came, `UpstreamMalformed` where it was too large or not HTTP, and
        `BadSettings` where the destination is refused for what it is.
        """
        try:
            destination = self._destination(url, proxy, allow_private)
            with TimeLimit(timeout):
                return await destination.post(body, headers)
        except (TimeoutError, aiohttp.ClientError, aiohttp.http_exceptions.HttpProcessingError, OSError) as error:
            ours = _ours(error)
        raise ours  # out here, so that it does not carry aiohttp's error along, in which our headers are

    async def close(self) -> None:
        for connector in self._forgotten():
            await connector.close()

    def drop(self) -> None:
        """Lets go of every connection without waiting, for where no event loop runs any more; `close` is the better way."""
        for connector in self._forgotten():
            connector._close(abort_ssl=True)  # `close` would leave a coroutine that nobody awaits

    def _forgotten(self) -> Sequence[aiohttp.TCPConnector]:
        connectors = list(self._connectors.values())
        self._connectors.clear()
        self._destination.cache_clear()
        return connectors

    def _judged_destination(self, url: str, proxy: str | None, allow_private: bool) -> Destination:
        """Raises `BadSettings`."""
        for each in filter(None, (url, proxy)):
            check_url(each, allow_private=allow_private)
        connector = self._connectors.get(allow_private)
        if connector is None:
            connector = open_connector(GuardedResolver(allow_private, self._resolver))
            self._connectors[allow_private] = connector
        return Destination(connector, url, proxy)


def _ours(error: Exception) -> RerankError:
    """What went wrong, without a word of the error itself: its text may hold a proxy's password or an upstream's words."""
    kind, message = _judged(error)
    number = getattr(error, "errno", None)
    log.warning("%s (%s%s)", message, type(error).__name__, "" if number is None else f", errno {number}")
    return kind(message)


def _judged(error: Exception) -> tuple[type[RerankError], str]:
    if isinstance(error, TimeoutError):
        return UpstreamUnavailable, "The upstream did not answer in time."
    if isinstance(error, aiohttp.ClientHttpProxyError):
        return UpstreamUnavailable, "The proxy to the upstream refused to connect."
    if isinstance(error, aiohttp.ClientResponseError | aiohttp.http_exceptions.HttpProcessingError):
        return UpstreamMalformed, "The upstream's answer is not HTTP."
    if isinstance(error, aiohttp.ClientSSLError | aiohttp.ServerFingerprintMismatch):
        return UpstreamUnavailable, "No secure connection to the upstream could be made."
    if isinstance(error, aiohttp.ClientConnectorError):
        return UpstreamUnavailable, "The upstream could not be reached."
    return UpstreamUnavailable, "The connection to the upstream broke."
