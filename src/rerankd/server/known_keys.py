"""Stored keys as this process knows them: those that were lately used, in memory, as they are in the database now.

The version of all keys is looked at again and again, so what anybody changes is in force soon, and whatever a change may
have touched is read anew. A key that is known goes on for 5 minutes while the database is away; one that is not is then
neither good nor bad. A flood of unknown keys is not one of readings: there is one at a time, for all who wait.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Collection
from contextlib import suppress
from dataclasses import dataclass
from enum import Enum
from ipaddress import IPv4Network, IPv6Network, ip_network
from time import monotonic, time
from typing import Final, Literal, Protocol, TypeVar

from rerankd.accounts import Caller, Scope
from rerankd.api_keys import id_of, same
from rerankd.errors import RerankError, StoreUnavailable
from rerankd.store.key_records import HeldKey, KeyState

log = logging.getLogger("rerankd.server")

Kept = TypeVar("Kept")

GOES_ON = 300.0
"""Seconds for which what is known counts while the database is away."""
REFUSED_FOR = 5.0
MOST_KNOWN, MOST_REFUSED, MOST_WAITING = 10_000, 10_000, 500
PATIENCE = 3.0
"""Seconds for which a request waits until its key is looked up."""


class Unknown(Enum):
    UNKNOWN = "only the database can tell"


UNKNOWN: Final = Unknown.UNKNOWN
Nothing = Literal[Unknown.UNKNOWN]


class KeySource(Protocol):
    """Each method raises a `RerankError` where the database does not answer."""

    @property
    def every(self) -> float: ...  # seconds after which to look at the version again
    def digest(self, key: bytes) -> bytes: ...
    async def version(self) -> int: ...
    async def state(self, ids: Collection[str] = ()) -> KeyState: ...


@dataclass(frozen=True, slots=True)
class KnownKey:
    """Who brings it, what for, from where, and until when (in seconds since 1970); without `networks`, anywhere."""

    caller: Caller
    scope: Scope
    networks: tuple[IPv4Network | IPv6Network, ...] = ()
    until: float = float("inf")


class KnownKeys:
    """`start` and `stop` belong into the event loop of the server; where nobody started it, requests look at the version."""

    def __init__(self, source: KeySource) -> None:
        self._source = source
        self._reads = _Reads(source)
        self._version: int | None = None
        self._known: dict[bytes, KnownKey] = {}
        self._refused: dict[bytes, float] = {}
        self._asked = self._confirmed = float("-inf")
        self._polling: asyncio.Task[None] | None = None
        self.made = True
        """Whether a key that ranks was ever made: until somebody has looked, yes."""
        self.away = False
        """Whether the database did not answer when it was last asked."""

    @property
    def due(self) -> bool:
        """Whether nobody has looked at the version for too long, but should have."""
        if self._version is None:
            return True
        return self._polling is None and monotonic() - self._asked >= self._source.every

    def get(self, key: bytes) -> KnownKey | Nothing | None:
        """None where it is no key that is good now. It never waits."""
        digest = self._source.digest(key)
        known = self._known.get(digest)
        if known is None:
            if id_of(key) is None or self._refused.get(digest, 0.0) > monotonic():
                return None
            return UNKNOWN
        if monotonic() - self._confirmed > GOES_ON:
            return UNKNOWN
        return known if known.until > time() else None

    async def find(self, key: bytes) -> KnownKey | None:
        """As `get`, and where that does not know, as the database says. Raises `StoreUnavailable` where that is away."""
        key_id, known = id_of(key), self.get(key)
        if known is not UNKNOWN or key_id is None:
            return None if known is UNKNOWN else known
        state = await self._reads.state(key_id)
        digest = self._source.digest(key)
        found = _accepted(state.held.get(key_id), digest)
        if state.version == self._version:  # else something changed meanwhile, and what is kept is of another version
            if found is None:
                _keep(self._refused, digest, monotonic() + REFUSED_FOR, MOST_REFUSED)
            else:
                _keep(self._known, digest, found, MOST_KNOWN)
        return found

    async def refresh(self) -> None:
        """Look at the version, and read again what it may have changed. Raises `StoreUnavailable`, and all stays."""
        began = self._asked = monotonic()
        try:
            if self._version is None or await self._source.version() != self._version:
                self._take(await self._source.state({known.caller.id for known in self._known.values()}))
        except RerankError as error:
            if not self.away:
                log.warning("keys cannot be looked up (%s); those that are known go on for 5 minutes", error.code)
            self.away = True
            raise _unavailable() from None
        self._confirmed = max(self._confirmed, began)
        self.away = False

    async def start(self) -> None:
        """Look, and go on looking. What it finds away is looked for again."""
        await self._refreshed()
        self._polling = asyncio.create_task(self._poll(), name="keys")

    async def stop(self) -> None:
        polling, self._polling = self._polling, None
        if polling is not None:
            polling.cancel()
            with suppress(asyncio.CancelledError):
                await polling

    async def _poll(self) -> None:
        while True:
            await asyncio.sleep(self._source.every)
            await self._refreshed()

    async def _refreshed(self) -> None:
        try:
            await self.refresh()
        except StoreUnavailable:
            pass  # it was logged when it began
        except Exception:
            log.exception("keys could not be looked up")

    def _take(self, state: KeyState) -> None:
        found = {digest: _accepted(state.held.get(known.caller.id), digest) for digest, known in self._known.items()}
        self._known = {digest: known for digest, known in found.items() if known is not None}
        self._refused.clear()
        self._version, self.made = state.version, state.made


class _Reads:
    def __init__(self, source: KeySource) -> None:
        self._source = source
        self._waiting: dict[str, asyncio.Future[KeyState]] = {}
        self._reader: asyncio.Task[None] | None = None

    async def state(self, key_id: str) -> KeyState:
        """Raises `StoreUnavailable` where it does not come in time."""
        if len(self._waiting) >= MOST_WAITING and key_id not in self._waiting:
            raise _unavailable()
        loop = asyncio.get_running_loop()
        waiting = self._waiting.setdefault(key_id, loop.create_future())
        if self._reader is None or self._reader.done():
            self._reader = loop.create_task(self._read())
        try:
            async with asyncio.timeout(PATIENCE):
                return await asyncio.shield(waiting)
        except TimeoutError:
            raise _unavailable() from None

    async def _read(self) -> None:
        while self._waiting:
            asked, self._waiting = self._waiting, {}
            try:
                state = await self._source.state(asked.keys())
            except Exception as error:
                if not isinstance(error, RerankError):
                    log.exception("keys could not be looked up")
                for waiting in asked.values():
                    waiting.set_exception(_unavailable())
            else:
                for waiting in asked.values():
                    waiting.set_result(state)


def _accepted(held: HeldKey | None, digest: bytes) -> KnownKey | None:
    """The one place where a stored key becomes somebody."""
    if held is None:
        return None
    record = held.record
    until = float("inf") if record.expires is None else float(record.expires)
    if not same(digest, held.digest):
        if held.former is None or record.former_until is None or not same(digest, held.former):
            return None
        until = min(until, record.former_until)
    if not record.usable(time()) or until <= time():
        return None
    caller = Caller(
        id=record.id,
        name=record.name,
        models=record.models,
        limits=record.limits,
        quotas=record.quotas,
        namespace="" if record.shared_cache else record.id,
        strict=record.strict,
    )
    return KnownKey(caller, record.scope, tuple(map(ip_network, record.networks)), until)


def _keep(kept: dict[bytes, Kept], digest: bytes, value: Kept, most: int) -> None:
    while len(kept) >= most:
        del kept[next(iter(kept))]
    kept[digest] = value


def _unavailable() -> StoreUnavailable:
    return StoreUnavailable("The key cannot be looked up now, as the database is away; try again.", retry_after=1.0)
