"""The keys of an upstream: they take turns, one that is refused or exhausted rests alone, and none is ever shown."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from time import monotonic

from rerankd.errors import UpstreamBusy, UpstreamRefused
from rerankd.secret import Secret as Secret

REFUSED_RESTS = 60.0
"""Seconds for which a key that was refused is not tried again."""


@dataclass
class _Rest:
    until: float = 0.0
    refused: bool = False


class KeyRing:
    def __init__(self, secrets: Sequence[Secret], clock: Callable[[], float] = monotonic) -> None:
        self._rests = {secret: _Rest() for secret in secrets}
        self._turns = list(self._rests.items())
        self._clock = clock

    def next(self) -> Secret | None:
        """The key whose turn it is, or None where the upstream needs none.

        Raises `UpstreamBusy`, with the seconds until the first one is back, or `UpstreamRefused`, when all rest.
        """
        now = self._clock()
        for place, (secret, rest) in enumerate(self._turns):
            if rest.until <= now:
                self._turns.append(self._turns.pop(place))
                return secret
        if not self._turns:
            return None
        raise self._all_rest(now)

    def refused(self, secret: Secret) -> None:
        rest = self._rests[secret]
        rest.until, rest.refused = self._clock() + REFUSED_RESTS, True

    def busy(self, secret: Secret, seconds: float) -> None:
        rest = self._rests[secret]
        rest.until, rest.refused = self._clock() + seconds, False

    def rests(self) -> bool:
        """Whether no key is left to be asked with."""
        now = self._clock()
        return all(rest.until > now for rest in self._rests.values())

    def _all_rest(self, now: float) -> UpstreamBusy | UpstreamRefused:
        busy = [rest.until - now for rest in self._rests.values() if not rest.refused]
        if busy:
            return UpstreamBusy("The upstream has had enough of us for now.", retry_after=min(busy))
        return UpstreamRefused("The upstream takes none of our keys.")
