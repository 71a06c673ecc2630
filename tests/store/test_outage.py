from __future__ import annotations

from rerankd.store.outage import FIRST_PAUSE, LONGEST_PAUSE, Outage


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def test_one_is_told_to_try_after_each_pause_and_the_pauses_grow() -> None:
    clock = Clock()
    outage = Outage(clock)
    assert not outage.on
    pauses = []
    for _ in range(8):
        outage.began("why", asked=clock.now)
        pauses.append(outage.remaining)
        clock.now += outage.remaining - 0.01
        assert not outage.due()
        clock.now += 0.02
        assert (outage.due(), outage.due()) == (True, False)
    assert pauses[:3] == [FIRST_PAUSE, 2 * FIRST_PAUSE, 4 * FIRST_PAUSE]
    assert pauses[-1] == LONGEST_PAUSE
    outage.ended()
    assert (outage.on, outage.due(), outage.reason) == (False, False, "")


def test_those_who_had_asked_before_the_first_failure_do_not_prolong_it() -> None:
    clock = Clock()
    outage = Outage(clock)
    clock.now += 2
    for _ in range(20):
        outage.began("why", asked=100.0)
    assert outage.remaining == FIRST_PAUSE
