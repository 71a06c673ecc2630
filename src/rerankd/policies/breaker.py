"""Whether a channel may be asked: what failed too often is left alone for a while, and then tried with one call.

One Breaker belongs to one channel and one model. It is closed while all is well, and:

- open after 5 failures in a row, or when at least 20 calls ended in the last 30 seconds and half of them failed (calls that
  are still under way are taken for answers, because failures come faster): nothing is let through for 10 seconds, then
  exactly one call, the probe. Where that fails, it is open for twice as long, up to 30 seconds;
- needs a person after our key was refused: one call a minute finds out whether somebody has mended that;
- resting, whatever else it is, until the time that the upstream named. Having had enough of us is no failure.

What ends after the breaker has changed was begun before it, and says nothing about how things are now.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from time import monotonic
from typing import Literal

import msgspec

from rerankd.errors import UpstreamBusy, UpstreamError, UpstreamRefused, UpstreamUnavailable
from rerankd.policies.recent import Recent
from rerankd.policies.streak import Streak

WINDOW = 30
FEWEST_CALLS = 20
FAILED_SHARE = 0.5
FAILURES_IN_A_ROW = 5
FIRST_OPEN = 10.0
LONGEST_OPEN = 30.0
PERSON_EVERY = 60.0
DEFAULT_REST = 5.0
LONGEST_REST = 3600.0
PROBE_WAIT = 1.0

Status = Literal["closed", "open", "half-open", "resting", "needs a person"]
Phase = Literal["closed", "open", "needs a person"]


@dataclass(frozen=True, slots=True)
class BreakerState:
    """How a channel is, for lists. `since` and `until` are of the breaker's clock; `until` is None where nobody waits.

    `last_error` is a sentence of ours; `calls` and `failures` are those that ended in the last 30 seconds.
    """

    status: Status
    since: float
    until: float | None
    last_error: str | None
    calls: int
    failures: int


class Permit(msgspec.Struct, frozen=True, eq=False):
    """One call that was let through, while the breaker was as it was in its `age`."""

    age: int


class Breaker:
    """It is asked and told from one thread, the event loop's, and never waits."""

    def __init__(self, *, clock: Callable[[], float] = monotonic) -> None:
        self._clock = clock
        self._recent = Recent(WINDOW, clock)
        self._streak = Streak()
        self._open_for = FIRST_OPEN
        self._phase: Phase = "closed"
        self._since = clock()
        self._until = self._since
        self._age = 0
        self._probe: Permit | None = None
        self._rest_since = self._rest_until = self._since
        self._last_error: str | None = None

    def admit(self) -> Permit:
        """Lets one call through; it has to be ended by `succeeded`, `failed` or `released`.

        Raises `UpstreamBusy`, `UpstreamUnavailable` or `UpstreamRefused` where the channel is to be left alone.
        """
        now = self._clock()
        if now < self._rest_until:
            raise UpstreamBusy("The upstream is resting, as it asked for.", retry_after=self._rest_until - now)
        permit = Permit(self._age)
        if self._phase == "closed":
            self._streak.begin(permit)
            return permit
        if now < self._until or self._probe is not None:
            raise self._refusal(now)
        self._probe = permit
        if self._phase == "needs a person":
            self._until = now + PERSON_EVERY  # a probe that is given back is not followed by another
        return permit

    def succeeded(self, permit: Permit) -> None:
        if permit.age != self._age:
            return
        if self._phase != "closed":
            self._change("closed", self._clock())
            self._recent.add()
        else:
            self._count(permit, failed=False)

    def failed(self, permit: Permit, error: UpstreamError) -> None:
        """Tells of an error of the upstream's; one of the caller's is `released`."""
        self._last_error = error.message
        self.rest(rest_asked_for(error))
        if isinstance(error, UpstreamRefused):
            self._refused()
        elif isinstance(error, UpstreamBusy):
            self.released(permit)
        elif permit.age == self._age:
            self._count(permit, failed=True)

    def released(self, permit: Permit) -> None:
        """The call ended and says nothing about the channel: the caller was wrong, or has gone away."""
        if permit.age == self._age:
            self._count(permit, failed=None)

    def rest(self, seconds: float) -> None:
        """No call goes out for so long; a rest is never shortened."""
        now = self._clock()
        if self._rest_until <= now < now + seconds:
            self._rest_since = now
        self._rest_until = max(self._rest_until, now + seconds)

    @property
    def closed(self) -> bool:
        """Whether calls are let through as they come."""
        return self._phase == "closed" and self._clock() >= self._rest_until

    @property
    def state(self) -> BreakerState:
        status, since, until = self._status(self._clock())
        return BreakerState(status, since, until, self._last_error, *self._recent.counts())

    def _status(self, now: float) -> tuple[Status, float, float | None]:
        if self._phase == "needs a person":
            return "needs a person", self._since, max(self._until, self._rest_until)
        if now < self._rest_until:
            return "resting", self._rest_since, self._rest_until
        if self._phase == "closed":
            return "closed", max(self._since, self._rest_until), None
        if now < self._until:
            return "open", self._since, self._until
        return "half-open", max(self._until, self._rest_until), None

    def _refusal(self, now: float) -> UpstreamError:
        if self._phase == "needs a person":
            return UpstreamRefused("The upstream does not take our key and waits for somebody to mend that.")
        left = max(self._until - now, PROBE_WAIT)
        return UpstreamUnavailable("The upstream has failed too often lately and is left alone.", retry_after=left)

    def _refused(self) -> None:
        now = self._clock()
        if self._phase != "needs a person":
            self._change("needs a person", now)
        self._probe = None
        self._until = max(self._until, now + PERSON_EVERY)

    def _count(self, permit: Permit, *, failed: bool | None) -> None:
        if failed is not None:
            self._recent.add(marked=int(failed))
        if permit is self._probe:
            self._probe = None
            if failed and self._phase == "open":
                self._open()
            return
        self._streak.end(permit, failed)
        if self._streak.failures >= FAILURES_IN_A_ROW or self._too_many():
            self._open()

    def _too_many(self) -> bool:
        calls, failures = self._recent.counts()
        return calls >= FEWEST_CALLS and failures >= FAILED_SHARE * (calls + self._streak.under_way)

    def _open(self) -> None:
        now = self._clock()
        self._change("open", now)
        self._until = now + self._open_for
        self._open_for = min(2 * self._open_for, LONGEST_OPEN)

    def _change(self, phase: Phase, now: float) -> None:
        if phase == "closed":
            self._recent.clear()
            self._streak = Streak()
            self._open_for = FIRST_OPEN
        self._phase = phase
        self._since = now
        self._age += 1
        self._probe = None


def rest_asked_for(error: UpstreamError) -> float:
    """Seconds for which the upstream wants no call: what it said, up to an hour; 5 where it is busy and says nothing."""
    asked = error.retry_after
    if asked is None or not asked >= 0:  # written so that what is no number counts as nothing said
        return DEFAULT_REST if isinstance(error, UpstreamBusy) else 0.0
    return min(asked, LONGEST_REST)
