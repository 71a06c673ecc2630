"""Whoever asks the database about what was recorded just now waits until it has arrived there, for a moment at most."""

from __future__ import annotations

from typing import Protocol

A_MOMENT = 0.5
"""Seconds."""


class Settling(Protocol):
    async def settled(self, seconds: float) -> bool:
        """Whether all that was recorded is in the database; it waits so long for it."""
        ...
