from __future__ import annotations

from time import monotonic

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rerankd.engine.batch import Batch
from rerankd.engine.job import Job
from rerankd.engine.line import QUANTUM, Line
from rerankd.engine.scorer import Watch
from rerankd.errors import Abandoned, DeadlineExceeded
from tests.engine.fake_models import Echo, job_of


def line_of(*jobs: Job) -> Line:
    line = Line(front=True)
    for job in jobs:
        line.add(job)
    return line


def filled(line: Line) -> Batch:
    batch = line.fill()
    assert batch is not None
    return batch


def count(batch: Batch, job: Job) -> int:
    return sum(member is job for member, _ in batch.members)


def test_an_empty_line_fills_nothing() -> None:
    assert line_of().fill() is None


def test_jobs_of_one_runner_share_a_batch() -> None:
    runner = Echo(batch_tokens=2048)
    jobs = [job_of(runner, name, [128] * 100) for name in range(4)]
    batch = filled(line_of(*jobs))
    assert batch.tokens == 2048
    assert [count(batch, job) for job in jobs] == [4, 4, 4, 4]


def test_equal_jobs_get_equal_shares_whatever_the_lengths_of_their_sequences() -> None:
    runner = Echo(batch_tokens=2048)
    jobs = [job_of(runner, 0, [20] * 4000), job_of(runner, 1, [500] * 160), job_of(runner, 2, [1500] * 60)]
    line = line_of(*jobs)
    for _ in range(60):
        filled(line)
    assert all(job.pending for job in jobs)
    served = [job.served for job in jobs]
    assert max(served) - min(served) < 2 * 2048


def test_a_hundred_jobs_are_all_served_before_one_is_served_twice_as_often() -> None:
    runner = Echo(batch_tokens=2048)
    jobs = [job_of(runner, name, [128] * 100) for name in range(100)]
    line = line_of(*jobs)
    for _ in range(25):
        filled(line)
    assert {job.served for job in jobs} == {4 * jobs[0].sequences[0].cost}


def test_a_newcomer_does_not_wait_for_those_that_have_been_served_already() -> None:
    runner = Echo(batch_tokens=2048)
    jobs = [job_of(runner, name, [128] * 1000) for name in range(50)]
    line = line_of(*jobs)
    for _ in range(40):
        filled(line)
    newcomer = job_of(runner, 50, [100] * 5)
    line.add(newcomer)
    waited = next(number for number in range(50) if count(filled(line), newcomer))
    assert waited < 13, "one turn of each of the others at most"


def test_a_newcomer_is_owed_nothing_for_the_time_before_it_came() -> None:
    runner = Echo(batch_tokens=2048)
    old = job_of(runner, 0, [128] * 1000)
    line = line_of(old)
    for _ in range(20):
        filled(line)
    new = job_of(runner, 1, [128] * 1000)
    line.add(new)
    before = old.served
    for _ in range(20):
        filled(line)
    assert new.served - (old.served - before) <= 2 * 2048


def test_a_batch_is_for_one_runner_and_every_runner_has_its_turn() -> None:
    one, two = Echo(), Echo()
    jobs = [job_of(one, 0, [128] * 200), job_of(two, 1, [128] * 200), job_of(one, 2, [128] * 200)]
    line = line_of(*jobs)
    batches = [filled(line) for _ in range(30)]
    assert all(job.runner is batch.runner for batch in batches for job in batch.jobs)
    served = [job.served for job in jobs]
    assert max(served) - min(served) <= 2 * 2048


def test_shares_are_of_the_devices_time_so_a_small_model_is_not_held_up_by_a_large_one() -> None:
    large, small = Echo(), Echo()
    slow = job_of(large, 0, [128] * 4000, rate=1_000.0)
    quick = job_of(small, 1, [128] * 400, rate=50_000.0)
    line = line_of(slow, quick)
    batches = 0
    while quick.pending:
        batches += filled(line).runner is large
    assert batches <= 2, "51,200 tokens of the small model take a second, and a batch of the large one two"


def test_a_sequence_longer_than_a_batch_is_one_of_its_own() -> None:
    runner = Echo(batch_tokens=512)
    line = line_of(job_of(runner, 0, [8000]), job_of(runner, 1, [100, 100]))
    assert sorted(filled(line).tokens for _ in range(2)) == [200, 8000]
    assert line.fill() is None


def test_what_is_too_long_for_the_rest_of_a_batch_leaves_the_rest_to_others() -> None:
    runner = Echo(batch_tokens=1000)
    line = line_of(job_of(runner, 0, [700, 700]), job_of(runner, 1, [100] * 10))
    assert filled(line).tokens == 1000


def test_a_job_that_is_all_in_batches_has_left_the_line() -> None:
    line = line_of(job_of(Echo(), 0, [8] * 3))
    filled(line)
    assert len(line) == 0
    assert line.fill() is None


@pytest.mark.parametrize("late", [True, False])
def test_nothing_of_a_job_that_nobody_waits_for_is_put_into_a_batch(late: bool) -> None:
    runner = Echo()
    dead = job_of(runner, 0, [8] * 3, Watch(deadline=monotonic() - 1 if late else None))
    living = job_of(runner, 1, [8] * 3)
    line = line_of(dead, living)
    if not late:
        dead.watch.abandon()
    assert filled(line).jobs == [living]
    with pytest.raises(DeadlineExceeded if late else Abandoned):
        dead.answer.result(0)


def test_a_job_whose_answer_was_cancelled_is_dropped() -> None:
    job = job_of(Echo(), 0, [8] * 3)
    line = line_of(job)
    job.answer.cancel()
    assert line.fill() is None
    assert len(line) == 0


def test_a_job_can_be_taken_out_and_taking_it_out_twice_does_nothing() -> None:
    job = job_of(Echo())
    line = line_of(job)
    line.discard(job)
    line.discard(job)
    assert line.fill() is None


@given(
    jobs=st.lists(
        st.tuples(st.integers(0, 2), st.lists(st.integers(2, 900), min_size=1, max_size=30)), min_size=1, max_size=12
    )
)
def test_every_sequence_is_given_once_in_batches_within_their_bounds(jobs: list[tuple[int, list[int]]]) -> None:
    runners = [Echo(batch_tokens=512), Echo(batch_tokens=2048), Echo(batch_tokens=100)]
    made = [job_of(runners[runner], name, lengths) for name, (runner, lengths) in enumerate(jobs)]
    line = line_of(*made)
    given: list[tuple[Job, int]] = []
    while (batch := line.fill()) is not None:
        assert batch.members
        assert {job.runner for job in batch.jobs} == {batch.runner}
        assert batch.tokens <= batch.runner.batch_tokens or len(batch.members) == 1
        given += batch.members
    assert len(given) == len(set(given)) == sum(len(lengths) for _, lengths in jobs)


@given(st.lists(st.sampled_from([2, 50, 60, 300, 683, 1500]), min_size=2, max_size=8))
def test_whoever_has_been_served_least_is_in_the_next_batch_and_equals_stay_equal(lengths: list[int]) -> None:
    runner = Echo(batch_tokens=2048)
    jobs = [job_of(runner, name, [length] * (20_000 // length)) for name, length in enumerate(lengths)]
    line = line_of(*jobs)
    while all(job.pending for job in jobs):
        least = min(job.served for job in jobs)
        waiting = [job for job in jobs if job.served == least]
        batch = filled(line)
        assert any(count(batch, job) for job in waiting)
        for length in set(lengths):
            served = [job.served for job, own in zip(jobs, lengths, strict=True) if own == length]
            assert max(served) - min(served) <= QUANTUM + 2048 * 1.25


def test_one_job_has_only_so_much_of_a_batch_however_large_that_is_and_many_fill_it() -> None:
    runner = Echo(batch_tokens=8192)
    alone = Line(front=True, at_once=2048)
    alone.add(job_of(runner, 0, [128] * 100))
    assert 2048 <= filled(alone).tokens < 2048 + QUANTUM
    shared = Line(front=True, at_once=2048)
    for name in range(4):
        shared.add(job_of(runner, name, [128] * 100))
    assert filled(shared).tokens == 8192
