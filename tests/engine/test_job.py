from __future__ import annotations

from concurrent.futures import CancelledError
from time import monotonic
from typing import Any

import pytest

from rerankd.engine.admission import Rate, Ticket
from rerankd.engine.batch import Batch
from rerankd.engine.job import Job
from rerankd.engine.scorer import Watch
from rerankd.errors import Abandoned, DeadlineExceeded, EngineError
from tests.engine.fake_models import Echo, expected, job_of, sequences_of


def result(job: Job, place: int) -> Any:
    return job.sequences[place].ids


def test_the_shortest_sequences_come_first() -> None:
    assert list(job_of(Echo(), lengths=[9, 3, 7, 3]).pending) == [1, 3, 2, 0]


def test_results_come_in_the_order_of_the_sequences_whenever_they_are_done() -> None:
    job = job_of(Echo(), lengths=[9, 3, 7])
    for place in (2, 0, 1):
        assert not job.answer.done()
        job.done(place, result(job, place))
    assert job.answer.result() == expected(job)


def test_a_job_without_sequences_has_its_answer_at_once() -> None:
    assert job_of(Echo(), lengths=[]).answer.result(0) == []


@pytest.mark.parametrize(("most", "given"), [(1.0, 1), (25.0, 3), (1e9, 5)])
def test_it_gives_as_much_as_it_is_asked_for_and_at_least_one(most: float, given: int) -> None:
    job = job_of(Echo(), lengths=[10] * 5, rate=100.0)
    batch = Batch(job.runner, front=True)
    assert job.give(batch, most) is (given < 5)
    assert [place for _, place in batch.members] == list(range(given))
    assert job.served == pytest.approx(given * job.sequences[0].cost)
    assert job.turn == pytest.approx(job.served / 100.0)


def test_what_does_not_fit_into_a_batch_stays_with_the_job() -> None:
    job = job_of(Echo(batch_tokens=25), lengths=[10] * 5)
    batch = Batch(job.runner, front=True)
    assert job.give(batch, 1e9)
    assert list(job.pending) == [2, 3, 4]
    assert not job.give(batch, 1e9), "it gave nothing, so it need not be asked again for this batch"


def test_its_ticket_says_what_is_left_of_it() -> None:
    ticket = Ticket(Rate(1000.0), 5.0)
    job = Job(Echo(), sequences_of(0, [10, 20]), Watch(), ticket)
    whole = sum(sequence.cost for sequence in job.sequences)
    assert ticket.left == pytest.approx(whole)
    job.done(0, result(job, 0))
    assert ticket.left == pytest.approx(job.sequences[1].cost)
    job.done(1, result(job, 1))
    assert ticket.left == pytest.approx(0.0)


def test_it_is_settled_once_and_what_comes_later_changes_nothing() -> None:
    failed, done, gone = (job_of(Echo()) for _ in range(3))
    failed.fail(EngineError("first"))
    failed.fail(EngineError("second"))
    failed.done(0, result(failed, 0))
    with pytest.raises(EngineError, match="first"):
        failed.answer.result(0)
    done.done(0, result(done, 0))
    done.fail(EngineError("late"))
    assert done.answer.result(0) == expected(done)
    gone.answer.cancel()
    gone.fail(EngineError("late"))
    gone.done(0, result(gone, 0))
    with pytest.raises(CancelledError):
        gone.answer.result(0)


def test_a_job_that_failed_has_nothing_left_to_be_computed() -> None:
    job = job_of(Echo(), lengths=[8] * 3)
    job.fail(EngineError("x"))
    assert job.over
    assert not job.pending


def test_it_is_over_when_its_caller_has_gone_or_its_time_is_up_and_then_says_which() -> None:
    left, late, living = (
        job_of(Echo(), watch=Watch(deadline=deadline)) for deadline in (None, monotonic() - 1, monotonic() + 60)
    )
    left.watch.abandon()
    for job in (left, late, living):
        job.expire()
    assert (left.over, late.over, living.over) == (True, True, False)
    with pytest.raises(Abandoned):
        left.answer.result(0)
    with pytest.raises(DeadlineExceeded):
        late.answer.result(0)
    assert not living.answer.done()


def test_the_time_in_the_queue_is_told_once() -> None:
    job = job_of(Echo())
    job.began()
    told = job.watch.timings["queue"]
    job.began()
    assert job.watch.timings["queue"] == told >= 0
