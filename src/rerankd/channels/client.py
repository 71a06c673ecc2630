"""The one way out: a POST to an upstream under bounds of time and size, to a destination that was judged.

No redirect is followed, no cookie kept, no proxy taken from the environment. What comes back is an answer whatever its
status; everything else is an error of ours, without a word of the upstream's.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from io import BytesIO
from typing import Protocol

import aiohttp
from aiohttp.abc import AbstractResolver

from rerankd.channels.connections import open_session
from rerankd.channels.guard import GuardedResolver, check_url
from rerankd.channels.unpacking import read_body
from rerankd.errors import RerankError, UpstreamMalformed, UpstreamUnavailable

log = logging.getLogger("rerankd.channels")

LARGE = 2**18


@dataclass(frozen=True, slots=True)
class Answer:
    """Whatever came back; the names of `headers` are in small letters."""

    status: int
    headers: Mapping[str, str]
    body: bytes


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
        self._sessions: dict[bool, aiohttp.ClientSession] = {}

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
        for destination in filter(None, (url, proxy)):
            check_url(destination, allow_private=allow_private)
        session = self._session(allow_private)
        try:
            async with (
                asyncio.timeout(timeout),
                session.post(url, data=_payload(body), headers=headers, proxy=proxy, allow_redirects=False) as response,
            ):
                said = {name.lower(): value for name, value in response.headers.items()}
                return Answer(response.status, said, await read_body(response))
        except (TimeoutError, aiohttp.ClientError, aiohttp.http_exceptions.HttpProcessingError, OSError) as error:
            ours = _ours(error)
        raise ours  # out here, so that it does not carry aiohttp's error along, in which our headers are

    async def close(self) -> None:
        sessions = list(self._sessions.values())
        self._sessions.clear()
        for session in sessions:
            await session.close()

    def drop(self) -> None:
        """Lets go of every connection without waiting, for where no event loop runs any more; `close` is the better way."""
        sessions = list(self._sessions.values())
        self._sessions.clear()
        for session in sessions:
            connector = session.connector
            session.detach()
            if connector is not None:
                connector._close(abort_ssl=True)  # `close` would leave a coroutine that nobody awaits

    def _session(self, allow_private: bool) -> aiohttp.ClientSession:
        session = self._sessions.get(allow_private)
        if session is None:
            session = self._sessions[allow_private] = open_session(GuardedResolver(allow_private, self._resolver))
        return session


def _payload(body: bytes) -> bytes | BytesIO:
    """A large body goes out in pieces, between which others have their turn; aiohttp warns of one that does not."""
    return body if len(body) < LARGE else BytesIO(body)


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
