from __future__ import annotations

from itertools import pairwise
from math import nan

import pytest

from rerankd.errors import (
    UpstreamBusy,
    UpstreamError,
    UpstreamMalformed,
    UpstreamRefused,
    UpstreamUnavailable,
    UpstreamUnsuited,
)
from rerankd.policies.breaker import FAILURES_IN_A_ROW, FEWEST_CALLS, Breaker, BreakerState, rest_asked_for
from tests.policies.upstream import Clock

AWAY = UpstreamUnavailable("It is away.")


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def breaker(clock: Clock) -> Breaker:
    return Breaker(clock=clock)


def fail(breaker: Breaker, error: UpstreamError = AWAY, times: int = 1) -> None:
    for _ in range(times):
        breaker.failed(breaker.admit(), error)


def answer(breaker: Breaker, times: int = 1) -> None:
    for _ in range(times):
        breaker.succeeded(breaker.admit())


@pytest.mark.parametrize("error", [AWAY, UpstreamMalformed("m"), UpstreamUnsuited("m"), UpstreamError("m")])
def test_five_failures_in_a_row_open_it_for_ten_seconds(error: UpstreamError, breaker: Breaker, clock: Clock) -> None:
    fail(breaker, error, FAILURES_IN_A_ROW - 1)
    assert breaker.closed
    fail(breaker, error)
    assert breaker.state == BreakerState("open", 1000, 1010, error.message, 5, 5)
    clock.now += 9.9
    with pytest.raises(UpstreamUnavailable) as caught:
        breaker.admit()
    assert caught.value.retry_after == pytest.approx(1)  # never less than a second
    clock.now += 0.1
    assert breaker.state.status == "half-open"
    breaker.admit()


def test_fast_failures_of_calls_begun_at_once_are_no_row_before_the_slow_answers_have_come(breaker: Breaker) -> None:
    permits = [breaker.admit() for _ in range(100)]
    for permit in permits[::3]:
        breaker.failed(permit, AWAY)
    assert breaker.closed
    for permit in set(permits) - set(permits[::3]):
        breaker.succeeded(permit)
    assert breaker.closed


def test_calls_begun_at_once_that_all_fail_open_it_in_whichever_order(breaker: Breaker) -> None:
    for permit in reversed([breaker.admit() for _ in range(50)]):
        breaker.failed(permit, AWAY)
    assert breaker.state.status == "open"


def test_of_twenty_calls_and_more_those_under_way_are_taken_for_answers(breaker: Breaker) -> None:
    waiting = [breaker.admit() for _ in range(26)]
    fail(breaker, times=25)
    assert breaker.closed
    breaker.released(waiting.pop())
    assert breaker.state.status == "open"


@pytest.mark.parametrize("given_back", [True, False])
def test_a_row_counts_as_soon_as_what_was_begun_before_it_has_ended(given_back: bool, breaker: Breaker) -> None:
    slow = breaker.admit()
    fail(breaker, times=FAILURES_IN_A_ROW)
    assert breaker.closed
    (breaker.released if given_back else breaker.succeeded)(slow)
    assert breaker.state.status == "open"


def test_an_answer_between_failures_starts_the_row_anew(breaker: Breaker) -> None:
    fail(breaker, times=4)
    answer(breaker)
    fail(breaker, times=4)
    assert breaker.closed


def test_half_of_twenty_calls_within_thirty_seconds_open_it(breaker: Breaker) -> None:
    for _ in range(FEWEST_CALLS // 2 - 1):
        answer(breaker)
        fail(breaker)
    answer(breaker)
    assert breaker.closed
    fail(breaker)
    assert breaker.state.status == "open"


def test_fewer_than_half_leave_it_closed(breaker: Breaker) -> None:
    for _ in range(100):
        answer(breaker, 2)
        fail(breaker)
        answer(breaker)
        fail(breaker)
    assert breaker.closed


def test_failures_of_more_than_thirty_seconds_ago_do_not_count(breaker: Breaker, clock: Clock) -> None:
    for _ in range(FEWEST_CALLS // 2 - 1):
        fail(breaker)
        answer(breaker)
    clock.now += 31
    answer(breaker)
    fail(breaker)
    assert breaker.closed
    assert (breaker.state.calls, breaker.state.failures) == (2, 1)


def test_a_probe_that_fails_doubles_the_time_up_to_half_a_minute_whatever_the_number(
    breaker: Breaker, clock: Clock
) -> None:
    fail(breaker, times=FAILURES_IN_A_ROW)
    waits = []
    for _ in range(1100):  # a power of two would have overflowed
        state = breaker.state
        assert state.until is not None
        waits.append(state.until - state.since)
        clock.now = state.until
        fail(breaker)
    assert waits[:5] == [10, 20, 30, 30, 30]
    assert set(waits[5:]) == {30}


def test_a_probe_that_is_answered_closes_it_and_the_next_time_is_short_again(breaker: Breaker, clock: Clock) -> None:
    fail(breaker, times=FAILURES_IN_A_ROW)
    clock.now += 10
    fail(breaker)
    clock.now += 20
    answer(breaker)
    assert breaker.state == BreakerState("closed", 1030, None, "It is away.", 1, 0)
    fail(breaker, times=FAILURES_IN_A_ROW)
    assert breaker.state.until == 1040


def test_exactly_one_probe_is_let_through_and_its_place_is_free_when_it_is_given_back(
    breaker: Breaker, clock: Clock
) -> None:
    fail(breaker, times=FAILURES_IN_A_ROW)
    clock.now += 10
    probe = breaker.admit()
    for _ in range(50):
        with pytest.raises(UpstreamUnavailable):
            breaker.admit()
    breaker.released(probe)
    assert breaker.state.status == "half-open"
    breaker.succeeded(breaker.admit())
    assert breaker.closed


def test_what_ends_after_it_opened_neither_closes_it_nor_opens_it_longer(breaker: Breaker, clock: Clock) -> None:
    fail(breaker, times=FAILURES_IN_A_ROW - 1)
    last, *late = [breaker.admit() for _ in range(4)]
    breaker.failed(last, AWAY)
    opened = breaker.state
    assert opened.status == "open"
    clock.now += 1
    breaker.succeeded(late[0])
    breaker.failed(late[1], AWAY)
    assert breaker.state == opened
    clock.now += 9
    breaker.admit()  # the probe
    breaker.released(late[2])
    with pytest.raises(UpstreamUnavailable):
        breaker.admit()


def test_a_refused_key_needs_a_person_and_is_tried_once_a_minute_at_most(breaker: Breaker, clock: Clock) -> None:
    called = [clock.now]
    fail(breaker, UpstreamRefused("No key."))
    assert breaker.state == BreakerState("needs a person", 1000, 1060, "No key.", 0, 0)
    for step in range(1200):
        clock.now += 0.5
        try:
            permit = breaker.admit()
        except UpstreamRefused as error:
            assert error.retry_after is None  # noqa: PT017  (nobody knows when somebody will come)
            continue
        called.append(clock.now)
        if step % 2:
            breaker.released(permit)
        else:
            breaker.failed(permit, UpstreamRefused("No key."))
    assert len(called) == 11
    assert min(later - earlier for earlier, later in pairwise(called)) >= 60


def test_a_refused_key_that_works_again_closes_it(breaker: Breaker, clock: Clock) -> None:
    fail(breaker, UpstreamRefused("No key."))
    clock.now += 60
    fail(breaker)  # away is not refused, but the person is still needed
    assert breaker.state.status == "needs a person"
    with pytest.raises(UpstreamRefused):
        breaker.admit()
    clock.now += 60
    answer(breaker)
    assert breaker.closed


@pytest.mark.parametrize(
    ("said", "rest"), [(None, 5), (nan, 5), (-3, 5), (0, 0), (1.5, 1.5), (3600, 3600), (10**9, 3600)]
)
def test_a_busy_upstream_rests_as_long_as_it_says_an_hour_at_most(
    said: float | None, rest: float, breaker: Breaker, clock: Clock
) -> None:
    fail(breaker, UpstreamBusy("Enough.", retry_after=said))
    if rest:
        assert breaker.state == BreakerState("resting", 1000, 1000 + rest, "Enough.", 0, 0)
        clock.now += rest - 0.01
        with pytest.raises(UpstreamBusy) as caught:
            breaker.admit()
        assert caught.value.retry_after == pytest.approx(0.01)
        clock.now += 0.02
    assert breaker.closed
    breaker.admit()


def test_being_busy_is_no_failure(breaker: Breaker, clock: Clock) -> None:
    for _ in range(100):
        fail(breaker, UpstreamBusy("Enough."))
        clock.now += 5
    assert breaker.closed
    assert breaker.state.calls == 0


def test_a_rest_is_never_shortened(breaker: Breaker) -> None:
    breaker.rest(3600)
    breaker.rest(1)
    assert breaker.state.until == 4600
    assert breaker.state.since == 1000


def test_a_failure_that_says_when_to_come_back_is_a_failure_and_a_rest(breaker: Breaker, clock: Clock) -> None:
    for _ in range(FAILURES_IN_A_ROW):
        fail(breaker, UpstreamUnavailable("Down.", retry_after=120))
        assert breaker.state.status == "resting"
        clock.now += 120
    assert breaker.state.status == "half-open"


def test_a_probe_that_finds_it_busy_leaves_the_place_to_the_next_after_the_rest(breaker: Breaker, clock: Clock) -> None:
    fail(breaker, times=FAILURES_IN_A_ROW)
    clock.now += 10
    fail(breaker, UpstreamBusy("Enough.", retry_after=30))
    assert (breaker.state.status, breaker.state.until) == ("resting", 1040)
    clock.now += 30
    assert breaker.state.status == "half-open"
    answer(breaker)
    assert breaker.closed


def test_a_rest_that_is_learnt_of_late_is_kept_as_well(breaker: Breaker, clock: Clock) -> None:
    fail(breaker, times=FAILURES_IN_A_ROW - 1)
    last, late = breaker.admit(), breaker.admit()
    breaker.failed(last, AWAY)
    breaker.failed(late, UpstreamBusy("Enough.", retry_after=3600))
    clock.now += 3599
    with pytest.raises(UpstreamBusy):
        breaker.admit()


def test_only_a_busy_upstream_that_says_nothing_is_left_alone() -> None:
    assert rest_asked_for(AWAY) == 0
    assert rest_asked_for(UpstreamBusy("Enough.")) == 5
