from __future__ import annotations

from rerankd.policies.retry_budget import LEAST_AGAIN, LEAST_ONWARDS, SECONDS, RetryBudget
from tests.policies.upstream import Clock


def test_few_requests_may_be_repeated_a_few_times() -> None:
    budget = RetryBudget(clock=Clock())
    assert [budget.again() for _ in range(LEAST_AGAIN + 1)] == [True] * LEAST_AGAIN + [False]


def test_another_channel_may_be_asked_more_often_than_the_same_one_and_both_pay_from_one_pot() -> None:
    budget = RetryBudget(clock=Clock())
    assert all(budget.again() for _ in range(LEAST_AGAIN))
    assert [budget.onwards() for _ in range(LEAST_ONWARDS)].count(True) == LEAST_ONWARDS - LEAST_AGAIN


def test_many_requests_may_be_repeated_in_a_share_of_their_number() -> None:
    budget = RetryBudget(clock=Clock())
    for _ in range(1000):
        budget.first_call()
    assert [budget.again() if turn % 2 else budget.onwards() for turn in range(200)].count(True) == 80


def test_what_was_paid_long_ago_is_forgotten() -> None:
    clock = Clock()
    budget = RetryBudget(clock=clock)
    while budget.again():
        pass
    clock.now += SECONDS - 1
    assert not budget.again()
    clock.now += 1
    assert budget.again()


def test_it_is_low_when_less_than_two_calls_more_are_left() -> None:
    budget = RetryBudget(clock=Clock())
    for _ in range(LEAST_ONWARDS - 2):
        budget.onwards()
    assert not budget.low
    budget.onwards()
    assert budget.low
