"""Where scores that were computed before are kept: values under digests, each owner's apart, never more than allowed.

It may forget anything at any time; a store that cannot be reached finds nothing and raises nothing.
"""

from __future__ import annotations

import sys
import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from time import monotonic
from typing import Protocol

OVERHEAD = 240
"""Bytes that an entry takes beside its key and its value, at most: the pair of value and expiry (56), the expiry (24), its
share of an OrderedDict's node and tables (116 measured, most just after they have grown), and what the allocator rounds up.
"""


class ScoreStore(Protocol):
    """Keys are digests of 32 bytes."""

    async def get(self, owner: str, keys: Sequence[bytes]) -> list[bytes | None]:
        """For each of `keys` what `owner` has under it, or None."""
        ...

    async def put(self, owner: str, entries: Mapping[bytes, bytes], ttl: float | None) -> None:
        """Keep `entries` for `ttl` seconds, or, where that is None, for as long as there is room."""
        ...


class MemoryScores:
    """A ScoreStore in this process: at most `max_bytes`, and what was not used for longest goes first. Any thread may ask.

    An owner's name and a digest make one key; because a digest's length is fixed, no two owners share one.
    """

    def __init__(self, max_bytes: int, clock: Callable[[], float] = monotonic) -> None:
        self._max_bytes = max_bytes
        self._clock = clock
        self._entries: OrderedDict[bytes, tuple[bytes, float | None]] = OrderedDict()
        self._used = 0
        self._lock = threading.Lock()

    @property
    def used(self) -> int:
        """Bytes, with everything that an entry takes beside its content."""
        return self._used

    @property
    def count(self) -> int:
        """Entries. There is no `len`, because an empty store would be false."""
        return len(self._entries)

    async def get(self, owner: str, keys: Sequence[bytes]) -> list[bytes | None]:
        prefix, now = owner.encode(), self._clock()
        with self._lock:
            return [self._get(prefix + key, now) for key in keys]

    async def put(self, owner: str, entries: Mapping[bytes, bytes], ttl: float | None) -> None:
        prefix = owner.encode()
        expires = None if ttl is None else self._clock() + ttl
        with self._lock:
            for key, value in entries.items():
                self._put(prefix + key, value, expires)

    def _get(self, key: bytes, now: float) -> bytes | None:
        entry = self._entries.get(key)
        if entry is None:
            return None
        value, expires = entry
        if expires is not None and expires <= now:
            self._drop(key)
            return None
        self._entries.move_to_end(key)
        return value

    def _put(self, key: bytes, value: bytes, expires: float | None) -> None:
        if key in self._entries:
            self._drop(key)
        size = size_of(key, value)
        if size > self._max_bytes:
            return
        while self._used + size > self._max_bytes:
            self._drop(next(iter(self._entries)))
        self._entries[key] = (value, expires)
        self._used += size

    def _drop(self, key: bytes) -> None:
        value, _ = self._entries.pop(key)
        self._used -= size_of(key, value)


class Layered:
    """A ScoreStore of two: what `near` does not have is asked of `far`, and both keep what is put.

    What comes from `far` is not kept near, because nobody knows how long it may still be used.
    """

    def __init__(self, near: ScoreStore, far: ScoreStore) -> None:
        self._near = near
        self._far = far

    async def get(self, owner: str, keys: Sequence[bytes]) -> list[bytes | None]:
        found = await self._near.get(owner, keys)
        missing = [index for index, value in enumerate(found) if value is None]
        if missing:
            further = await self._far.get(owner, [keys[index] for index in missing])
            for index, value in zip(missing, further, strict=True):
                found[index] = value
        return found

    async def put(self, owner: str, entries: Mapping[bytes, bytes], ttl: float | None) -> None:
        await self._near.put(owner, entries, ttl)
        await self._far.put(owner, entries, ttl)


def size_of(key: bytes, value: bytes) -> int:
    return sys.getsizeof(key) + sys.getsizeof(value) + OVERHEAD
