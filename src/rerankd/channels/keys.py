"""The keys of an upstream: they take turns, one that is refused or exhausted rests alone, and none is ever shown."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from time import monotonic

from rerankd.errors import BadSettings, UpstreamBusy, UpstreamRefused

SHOWN = "***"
REFUSED_RESTS = 60.0
"""Seconds for which a key that was refused is not tried again."""


class Secret:
    """A text that prints as *** wherever it is printed; `reveal` is the one way to it.

    It is no str and has no fields, so that neither json, msgspec, pickle nor a dataclass's repr finds what is in it.
    """

    __slots__ = ("_reveal",)

    def __init__(self, text: str) -> None:
        """Blanks around it are dropped: a key read from a file ends in a newline. Raises `BadSettings`."""
        stripped = text.strip()
        if not stripped or not all(" " < character <= "~" for character in stripped):
            raise BadSettings("A key of an upstream is empty, or holds what no HTTP header can carry.")
        self._reveal: Callable[[], str] = lambda: stripped

    def reveal(self) -> str:
        return self._reveal()

    def __repr__(self) -> str:
        return SHOWN

    def __str__(self) -> str:
        return SHOWN

    def __format__(self, spec: str) -> str:
        return SHOWN

    def __reduce__(self) -> str:
        raise TypeError("a secret is not written down")

    def __deepcopy__(self, seen: object) -> Secret:
        return self

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and self.reveal() == other.reveal()

    def __hash__(self) -> int:
        return hash(self.reveal())


@dataclass
class _Rest:
    until: float = 0.0
    refused: bool = False


class KeyRing:
    def __init__(self, secrets: Sequence[Secret], clock: Callable[[], float] = monotonic) -> None:
        self._rests = {secret: _Rest() for secret in secrets}
        self._turns = list(self._rests)
        self._clock = clock

    def next(self) -> Secret | None:
        """The key whose turn it is, or None where the upstream needs none.

        Raises `UpstreamBusy`, with the seconds until the first one is back, or `UpstreamRefused`, when all rest.
        """
        now = self._clock()
        for place, secret in enumerate(self._turns):
            if self._rests[secret].until <= now:
                self._turns = [*self._turns[:place], *self._turns[place + 1 :], secret]
                return secret
        if not self._turns:
            return None
        raise self._all_rest(now)

    def refused(self, secret: Secret) -> None:
        self._rests[secret] = _Rest(self._clock() + REFUSED_RESTS, refused=True)

    def busy(self, secret: Secret, seconds: float) -> None:
        self._rests[secret] = _Rest(self._clock() + seconds)

    def rests(self) -> bool:
        """Whether no key is left to be asked with."""
        now = self._clock()
        return all(rest.until > now for rest in self._rests.values())

    def _all_rest(self, now: float) -> UpstreamBusy | UpstreamRefused:
        busy = [rest.until - now for rest in self._rests.values() if not rest.refused]
        if busy:
            return UpstreamBusy("The upstream has had enough of us for now.", retry_after=min(busy))
        return UpstreamRefused("The upstream takes none of our keys.")
