"""Unique ids that sort by when they were made (UUIDv7, RFC 9562): in one process each is greater than the one before."""

from __future__ import annotations

import os
from threading import Lock
from time import time_ns

MOST_OF_A_MILLISECOND = 0xFFF

_lock = Lock()
_last = (0, 0)


def uuid7() -> str:
    """32 hexadecimal digits. While the clock stands still, or goes back, a counter goes on."""
    now = time_ns() // 1_000_000
    with _lock:
        moment, count = _after(now)
    chance = int.from_bytes(os.urandom(8)) >> 2
    return f"{moment << 80 | 7 << 76 | count << 64 | 2 << 62 | chance:032x}"


def _after(now: int) -> tuple[int, int]:
    global _last
    moment, count = _last
    if now > moment:
        _last = (now, 0)
    elif count < MOST_OF_A_MILLISECOND:
        _last = (moment, count + 1)
    else:
        _last = (moment + 1, 0)
    return _last
