"""Counters that several processes share, and that go on in this one at its share while the others cannot be heard.

A share is the limit divided by the number of processes, and never so small that a request which the limit allows could not
pass. Quotas are not divided: each process counts from the ledger's sums then, which all of them write.
"""

from __future__ import annotations

import msgspec

from rerankd.accounts import Caller, Limits
from rerankd.policies.counters import Counters, SharedCounters
from rerankd.reservations import Refusal, Reservation


class FallingBack:
    """`shared` where it can be asked, else `own`; `processes` is how many there are where `shared` never said."""

    def __init__(self, shared: SharedCounters, own: Counters, processes: int) -> None:
        self._shared = shared
        self._own = own
        self._processes = processes

    async def reserve(self, caller: Caller, *, documents: int, tokens: int, seconds: float) -> Reservation | Refusal:
        outcome = await self._shared.reserve(caller, documents=documents, tokens=tokens, seconds=seconds)
        if outcome is not None:
            return outcome
        processes = self._shared.processes or self._processes
        if processes > 1:
            limits = share_of(caller.limits, processes, documents=documents, tokens=tokens)
            caller = msgspec.structs.replace(caller, limits=limits)
        return await self._own.reserve(caller, documents=documents, tokens=tokens, seconds=seconds)

    def settle(self, reservation: Reservation, tokens: int, sequence: int | None) -> None:
        self._of(reservation).settle(reservation, tokens, sequence)

    def release(self, reservation: Reservation) -> None:
        self._of(reservation).release(reservation)

    def _of(self, reservation: Reservation) -> Counters | SharedCounters:
        return self._shared if reservation.shared else self._own


def share_of(limits: Limits, processes: int, *, documents: int, tokens: int) -> Limits:
    """What one of `processes` may let in; a request that is larger than that passes where nothing else did in 60 s."""

    def share(limit: int | None, asked: int) -> int | None:
        return None if limit is None else max(limit // processes, min(asked, limit))

    return Limits(
        requests=share(limits.requests, 1),
        tokens=share(limits.tokens, tokens),
        documents=share(limits.documents, documents),
        concurrency=share(limits.concurrency, 1),
    )
