"""The breaker against a second telling of its rules, which keeps everything that ever happened."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import takewhile

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, initialize, invariant, rule

from rerankd.errors import UpstreamBusy, UpstreamError, UpstreamRefused, UpstreamUnavailable
from rerankd.policies.breaker import Breaker, Permit
from tests.policies.upstream import Clock


@dataclass(eq=False)
class Begun:
    permit: Permit
    epoch: int
    probe: bool
    ended: float | None = None
    failed: bool | None = None


class BreakerRules(RuleBasedStateMachine):
    begun = Bundle("begun")

    @initialize()
    def start(self) -> None:
        self.clock = Clock(0)
        self.breaker = Breaker(clock=self.clock)
        self.epoch = 0
        self.mode = "closed"
        self.no_call_before = 0.0  # what an upstream asked for
        self.shut_until = 0.0
        self.opened = 0  # times in a row
        self.calls: list[Begun] = []  # since it closed, in the order of their beginning
        self.probe: Begun | None = None
        self.person_calls: list[float] = []

    @rule(seconds=st.integers(1, 70))
    def wait(self, seconds: int) -> None:
        self.clock.now += seconds

    @rule(before=st.sampled_from([0, 1]), failed=st.booleans())
    def a_probe_when_it_is_due(self, before: int, failed: bool) -> None:
        """Or a second before it is."""
        self.clock.now = max(self.clock.now, self.shut_until - before, self.no_call_before - before)
        call = self._begin()
        self._failed(call, None) if failed else self._answered(call)

    @rule(target=begun)
    def begin(self) -> Begun | None:
        return self._begin()

    def _begin(self) -> Begun | None:
        now = self.clock.now
        may = now >= self.no_call_before
        if self.mode != "closed":
            may = may and now >= self.shut_until and self.probe is None
        try:
            permit = self.breaker.admit()
        except UpstreamError as error:
            assert not may
            self._check_refusal(error)
            return None
        assert may
        call = Begun(permit, self.epoch, self.mode != "closed")
        if call.probe:
            self.probe = call
        else:
            self.calls.append(call)
        if self.mode == "needs a person":
            self.shut_until = now + 60
            assert now - self.person_calls[-1] >= 60
            self.person_calls.append(now)
        return call

    def _check_refusal(self, error: UpstreamError) -> None:
        if self.clock.now < self.no_call_before:
            assert isinstance(error, UpstreamBusy)
            assert error.retry_after == self.no_call_before - self.clock.now
        elif self.mode == "open":
            assert isinstance(error, UpstreamUnavailable)
        else:
            assert isinstance(error, UpstreamRefused)

    @rule(call=consumes(begun))
    def answered(self, call: Begun | None) -> None:
        self._answered(call)

    def _answered(self, call: Begun | None) -> None:
        if call is None:
            return
        self.breaker.succeeded(call.permit)
        if call.epoch == self.epoch:
            if call.probe:
                self._turn("closed")
                self.calls = [call]
            self._end(call, failed=False)

    @rule(call=consumes(begun), seconds=st.sampled_from([None, 0.0, 7.0]))
    def away(self, call: Begun | None, seconds: float | None) -> None:
        self._failed(call, seconds)

    @rule()
    def five_fail_in_a_row(self) -> None:
        if self.breaker.closed:
            for _ in range(5):
                if self.breaker.closed:
                    call = self._begin()
                    self._failed(call, None)
            assert self.mode == "open" or any(call.ended is None for call in self.calls)

    @rule(outcomes=st.lists(st.sampled_from([True, False]), min_size=20, max_size=30))
    def many_end(self, outcomes: list[bool]) -> None:
        for failed in outcomes:
            if self.breaker.closed:
                call = self._begin()
                self._failed(call, None) if failed else self._answered(call)

    def _failed(self, call: Begun | None, seconds: float | None) -> None:
        if call is None:
            return
        self.breaker.failed(call.permit, UpstreamUnavailable("Away.", retry_after=seconds))
        self._rest(seconds or 0)
        if call.epoch != self.epoch:
            return
        self._end(call, failed=True)

    def _end(self, call: Begun, *, failed: bool | None) -> None:
        call.ended, call.failed = self.clock.now, failed
        if call is self.probe:
            self.probe = None
            if failed and self.mode == "open":
                self._open()
        elif self.mode == "closed" and self._too_many():
            self._open()

    def _open(self) -> None:
        self._turn("open")
        self.opened += 1
        self.shut_until = self.clock.now + {1: 10, 2: 20}.get(self.opened, 30)

    def _too_many(self) -> bool:
        sure = list(takewhile(lambda call: call.ended is not None, self.calls))
        last = [call.failed for call in sure if call.failed is not None and not call.probe][-5:]
        now = self.clock.now
        recent = [call.failed for call in self.calls if call.failed is not None and (call.ended or 0) > now - 30]
        under_way = sum(call.ended is None for call in self.calls)
        return last == [True] * 5 or (len(recent) >= 20 and 2 * recent.count(True) >= len(recent) + under_way)

    @rule(call=consumes(begun), seconds=st.sampled_from([None, 0.0, 3.0, 3600.0, 1e6]))
    def busy(self, call: Begun | None, seconds: float | None) -> None:
        if call is None:
            return
        self.breaker.failed(call.permit, UpstreamBusy("Busy.", retry_after=seconds))
        self._rest(5 if seconds is None else min(seconds, 3600))
        self._give_back(call)

    @rule(call=consumes(begun))
    def refused(self, call: Begun | None) -> None:
        if call is None:
            return
        self.breaker.failed(call.permit, UpstreamRefused("No key."))
        if self.mode != "needs a person":
            self.person_calls = [self.clock.now]
            self._turn("needs a person")
        self.probe = None
        self.shut_until = max(self.shut_until, self.clock.now + 60)

    @rule(call=consumes(begun))
    def given_back(self, call: Begun | None) -> None:
        if call is not None:
            self.breaker.released(call.permit)
            self._give_back(call)

    def _give_back(self, call: Begun) -> None:
        if call.epoch == self.epoch:
            self._end(call, failed=None)

    def _rest(self, seconds: float) -> None:
        self.no_call_before = max(self.no_call_before, self.clock.now + seconds)

    def _turn(self, mode: str) -> None:
        self.mode = mode
        self.epoch += 1
        self.probe = None
        self.shut_until = 0
        if mode == "closed":
            self.calls = []
            self.opened = 0

    @invariant()
    def it_says_how_it_is(self) -> None:
        state = self.breaker.state
        now = self.clock.now
        assert self.breaker.closed == (state.status == "closed")
        if self.mode == "needs a person":
            expected = "needs a person"
        elif now < self.no_call_before:
            expected = "resting"
        elif self.mode == "open":
            expected = "open" if now < self.shut_until else "half-open"
        else:
            expected = "closed"
        assert state.status == expected
        assert state.since <= now
        assert state.until is None or state.until > state.since
        assert 0 <= state.failures <= state.calls


BreakerRules.TestCase.settings = settings(max_examples=60, stateful_step_count=60, deadline=None)
TestBreaker = BreakerRules.TestCase
