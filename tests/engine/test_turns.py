from __future__ import annotations

from rerankd.engine.batch import Batch
from rerankd.engine.job import Job
from rerankd.engine.line import QUANTUM
from rerankd.engine.turns import FRONT_SHARE, HEAD_START, Turns
from tests.engine.fake_models import Echo, job_of


def small(runner: Echo, name: int = 0) -> Job:
    return job_of(runner, name, [60] * 10)


def large(runner: Echo, name: int = 0) -> Job:
    return job_of(runner, name, [60] * 1000)


def taken(turns: Turns) -> Batch:
    batch = turns.next()
    assert batch is not None
    return batch


def served_late(turns: Turns, runner: Echo) -> Job:
    """A large job that has had its head start."""
    job = large(runner)
    turns.add(job, "interactive")
    while taken(turns).front:
        pass
    return job


def test_there_is_nothing_to_do_where_nobody_waits() -> None:
    turns = Turns()
    assert turns.next() is None
    assert turns.urgent() is None
    assert len(turns) == 0


def test_a_small_job_is_done_from_the_front() -> None:
    turns = Turns()
    turns.add(small(Echo()), "interactive")
    assert taken(turns).front
    assert turns.next() is None


def test_a_large_job_has_a_head_start_and_then_goes_to_the_back() -> None:
    for runner in (Echo(), Echo(batch_tokens=100_000)):
        turns = Turns()
        job = large(runner)
        turns.add(job, "interactive")
        served = 0.0
        while taken(turns).front:
            served = job.served
        assert HEAD_START - QUANTUM <= served <= HEAD_START + QUANTUM, "however large a batch may be"


def test_a_job_that_begins_with_a_sequence_beyond_the_head_start_begins_in_the_back() -> None:
    turns = Turns()
    turns.add(job_of(Echo(), 0, [8000]), "interactive")
    assert not taken(turns).front


def test_a_job_of_priority_batch_lets_the_others_go_first() -> None:
    turns, runner = Turns(), Echo()
    waits, person = small(runner, 0), small(runner, 1)
    turns.add(waits, "batch")
    turns.add(person, "interactive")
    first, second = taken(turns), taken(turns)
    assert (first.jobs, first.front) == ([person], True)
    assert (second.jobs, second.front) == ([waits], False)


def test_small_jobs_go_before_the_rest_of_a_large_one() -> None:
    turns, runner = Turns(), Echo()
    served_late(turns, runner)
    newcomer = small(runner, 1)
    turns.add(newcomer, "interactive")
    urgent = turns.urgent()
    assert urgent is not None
    assert urgent.jobs == [newcomer]
    assert turns.urgent() is None


def test_the_back_keeps_its_quarter_while_the_front_never_ends() -> None:
    turns, runner = Turns(), Echo()
    job = job_of(runner, 0, [60] * 30_000)
    turns.add(job, "batch")
    spent = {True: 0.0, False: 0.0}
    for name in range(400):
        turns.add(small(runner, name), "interactive")
        batch = taken(turns)
        seconds = 1.0 if batch.front else 1.7
        turns.spent(batch, seconds)
        spent[batch.front] += seconds
    assert abs(spent[True] / (spent[True] + spent[False]) - FRONT_SHARE) < 0.01


def test_the_back_keeps_its_quarter_where_the_front_comes_between_its_steps() -> None:
    turns, runner = Turns(), Echo()
    turns.add(job_of(runner, 0, [60] * 30_000), "batch")
    spent = {True: 0.0, False: 0.0}
    for _ in range(20):
        back = taken(turns)
        if back.front:
            turns.spent(back, 1.0)
            spent[True] += 1.0
            continue
        for step in range(10):
            turns.spent(back, 0.1)
            spent[False] += 0.1
            turns.add(small(runner, step), "interactive")
            while (urgent := turns.urgent()) is not None:
                turns.spent(urgent, 0.2)
                spent[True] += 0.2
                turns.add(small(runner, step), "interactive")
    assert abs(spent[True] / (spent[True] + spent[False]) - FRONT_SHARE) < 0.05


def test_a_line_that_had_the_device_to_itself_owes_nothing_for_it() -> None:
    turns, runner = Turns(), Echo()
    for name in range(100):
        turns.add(small(runner, name), "interactive")
        turns.spent(taken(turns), 1.0)
    turns.add(large(runner), "batch")
    turns.add(small(runner), "interactive")
    assert taken(turns).front, "a hundred seconds alone are not paid back"


def test_a_back_that_had_the_device_to_itself_owes_nothing_for_it() -> None:
    turns, runner = Turns(), Echo()
    turns.add(job_of(runner, 0, [60] * 30_000), "batch")
    back = taken(turns)
    for _ in range(100):
        turns.spent(back, 1.0)
    for _ in range(10):
        turns.add(small(runner), "interactive")
        if (urgent := turns.urgent()) is None:
            return
        turns.spent(urgent, 1.0)
    raise AssertionError("the front had ten seconds in a row")


def test_a_front_that_comes_now_and_then_never_waits_for_the_back_to_be_paid() -> None:
    turns, runner = Turns(), Echo()
    turns.add(job_of(runner, 0, [60] * 30_000), "batch")
    back = taken(turns)
    for _ in range(20):
        turns.add(small(runner), "interactive")
        urgent = turns.urgent()
        assert urgent is not None
        turns.spent(urgent, 1.0)
        turns.spent(back, 1.0)


def test_a_job_can_be_taken_out_of_either_line() -> None:
    turns, runner = Turns(), Echo()
    front, back = small(runner), small(runner)
    turns.add(front, "interactive")
    turns.add(back, "batch")
    assert turns.jobs == {front, back}
    turns.discard(front)
    turns.discard(back)
    assert turns.jobs == set()
    assert turns.next() is None
