"""Who counts what keys use: a request takes what it needs before any work is done, and says afterwards what it was."""

from __future__ import annotations

from typing import Protocol

from rerankd.accounts import Caller
from rerankd.reservations import Refusal, Reservation


class Counters(Protocol):
    """What is let in is settled or released, once, and neither waits for anything."""

    async def reserve(self, caller: Caller, *, documents: int, tokens: int, seconds: float) -> Reservation | Refusal:
        """Takes one request, its documents and its tokens (an estimate), all or nothing. The reservation holds for
        `seconds` where nobody ends it. Raises `StoreUnavailable` where there is a quota and nobody knows what is left of it.
        """
        ...

    def settle(self, reservation: Reservation, tokens: int, sequence: int | None) -> None:
        """Its `tokens` take the place of the estimate. `sequence` is the ledger's number of its row, None without one."""
        ...

    def release(self, reservation: Reservation) -> None:
        """It came to nothing: its tokens are given back; that there was a request stays counted."""
        ...


class SharedCounters(Protocol):
    """Counters that other processes see, too, and that may be away."""

    async def reserve(
        self, caller: Caller, *, documents: int, tokens: int, seconds: float
    ) -> Reservation | Refusal | None:
        """As `Counters.reserve`; None where they cannot be asked."""
        ...

    def settle(self, reservation: Reservation, tokens: int, sequence: int | None) -> None: ...

    def release(self, reservation: Reservation) -> None: ...

    @property
    def processes(self) -> int | None:
        """How many processes used them lately; None where that was never heard."""
        ...
