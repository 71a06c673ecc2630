from __future__ import annotations

from rerankd.policies.streak import Streak


def test_failures_in_a_row_are_counted_up_to_the_next_answer() -> None:
    streak = Streak()
    counts = []
    for call, failed in enumerate([True, True, False, True, None, True]):
        streak.begin(call)
        streak.end(call, failed)
        counts.append(streak.failures)
    assert counts == [1, 2, 0, 1, 1, 2]


def test_the_order_is_that_of_the_beginnings() -> None:
    streak = Streak()
    for call in "abcd":
        streak.begin(call)
    for call in "dcb":
        streak.end(call, True)
        assert streak.failures == 0
    assert streak.under_way == 1
    streak.end("a", False)
    assert (streak.failures, streak.under_way) == (3, 0)


def test_nothing_is_kept_of_what_was_counted() -> None:
    streak = Streak()
    for call in range(100):
        streak.begin(call)
        streak.end(call, None)
    assert not streak._begun
    assert not streak._ended
