from __future__ import annotations

from rerankd.policies.recent import Recent
from tests.policies.upstream import Clock


def test_what_happened_is_counted_until_it_is_too_old() -> None:
    clock = Clock(100)
    recent = Recent(10, clock)
    recent.add(marked=1)
    clock.now = 105
    recent.add(3)
    clock.now = 109.9
    assert recent.counts() == (4, 1)
    clock.now = 110
    assert recent.counts() == (3, 0)
    clock.now = 115
    assert recent.counts() == (0, 0)


def test_a_kind_can_be_counted_without_counting_one_more() -> None:
    recent = Recent(10, Clock())
    recent.add(0, marked=2)
    assert recent.counts() == (0, 2)


def test_memory_is_bounded_by_seconds_and_not_by_how_much_happens() -> None:
    clock = Clock(0)
    recent = Recent(10, clock)
    for _ in range(20_000):
        recent.add()
        clock.now += 0.005
    assert len(recent._counted) <= 10
    assert recent.counts()[0] == sum(count for _, count, _ in recent._counted)


def test_cleared_nothing_is_left() -> None:
    recent = Recent(10, Clock())
    recent.add(marked=1)
    recent.clear()
    assert recent.counts() == (0, 0)
