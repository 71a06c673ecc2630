from __future__ import annotations

import gc
import weakref
from collections.abc import Callable
from time import monotonic
from typing import Any

import pytest

from rerankd.engine import batch as batches
from rerankd.engine.admission import Rate, Ticket
from rerankd.engine.batch import Batch
from rerankd.engine.job import Job
from rerankd.engine.scorer import Watch
from rerankd.errors import BadRequest, DeadlineExceeded, EngineError, Overloaded, RerankError
from tests.engine import fake_models
from tests.engine.fake_models import Echo, expected, job_of, sequences_of


def batch_of(*jobs: Job) -> Batch:
    batch = Batch(jobs[0].runner, front=True)
    for job in jobs:
        job.give(batch, 1e9)
    return batch


def run(*jobs: Job) -> list[float]:
    return list(batch_of(*jobs).steps())


def holds(name: int) -> Callable[[fake_models.Batch], BaseException | None]:
    """Fails for batches that hold something of job `name`."""
    return lambda batch: ValueError("the inner text") if any(ids[0] == name for ids in batch) else None


def takes_at_most(count: int) -> Callable[[fake_models.Batch], BaseException | None]:
    return lambda batch: RuntimeError("CUDA out of memory. Tried to allocate") if len(batch) > count else None


def error_of(job: Job) -> BaseException:
    error = job.answer.exception(0)
    assert error is not None
    return error


def test_each_job_of_a_batch_gets_its_own_results() -> None:
    runner = Echo(steps=3)
    jobs = [job_of(runner, name, [8] * 5) for name in range(3)]
    assert len(run(*jobs)) == 3, "as many times as steps"
    assert [job.answer.result(0) for job in jobs] == [expected(job) for job in jobs]
    assert len(runner.batches) == 1


def test_a_failing_batch_fails_the_guilty_job_alone(caplog: pytest.LogCaptureFixture) -> None:
    runner = Echo(fails=holds(1))
    jobs = [job_of(runner, name, [8] * 5) for name in range(3)]
    run(*jobs)
    assert [jobs[name].answer.result(0) for name in (0, 2)] == [expected(jobs[0]), expected(jobs[2])]
    assert type(error_of(jobs[1])) is EngineError
    assert "inner text" not in str(error_of(jobs[1]))
    assert "inner text" in caplog.text


def test_a_job_that_failed_takes_what_is_left_of_it_along() -> None:
    job = job_of(Echo(batch_tokens=16, fails=holds(0)), 0, [8] * 10)
    run(job)
    assert not job.pending


def test_an_error_that_is_meant_for_the_client_reaches_it_as_it_is() -> None:
    job = job_of(Echo(fails=lambda _: BadRequest("Too long.", param="query")))
    run(job)
    assert isinstance(error_of(job), BadRequest)


def test_out_of_memory_the_batch_is_halved_until_it_fits() -> None:
    runner = Echo(fails=takes_at_most(3))
    jobs = [job_of(runner, name, [8] * 5) for name in range(3)]
    run(*jobs)
    assert [job.answer.result(0) for job in jobs] == [expected(job) for job in jobs]
    assert [len(batch) for batch in runner.batches] == [15, 7, 3, 4, 2, 2, 8, 4, 2, 2, 4, 2, 2]


@pytest.mark.parametrize(
    "cause",
    [
        MemoryError(),
        RuntimeError("[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory: you tried"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
    ],
)
def test_a_single_sequence_without_memory_is_told_to_come_again(cause: BaseException) -> None:
    runner = Echo(fails=lambda batch: cause if any(len(ids) > 1000 for ids in batch) else None)
    long, short = job_of(runner, 0, [2000]), job_of(runner, 1, [8, 8])
    run(short, long)
    error = error_of(long)
    assert isinstance(error, Overloaded)
    assert (error.status, error.retryable) == (503, True)
    assert error.retry_after is not None
    assert error.retry_after >= 1
    assert short.answer.result(0) == expected(short)


def test_what_a_failed_forward_held_is_free_before_it_is_tried_again() -> None:
    class Activations:
        pass

    held: list[weakref.ref[Activations]] = []
    alive: list[int] = []

    class Runs(Echo):
        def step(self, batch: fake_models.Batch) -> None:
            alive.append(sum(kept() is not None for kept in held))
            activations = Activations()
            held.append(weakref.ref(activations))
            if len(batch) > 2:
                raise MemoryError

    gc.disable()  # the device cannot wait for a collection
    try:
        job = job_of(Runs(), 0, [8] * 8)
        run(job)
    finally:
        gc.enable()
    assert job.answer.result(0) == expected(job)
    assert alive == [0] * 7


def test_a_runner_that_gives_too_few_results_fails_the_job_and_mixes_nothing_up() -> None:
    class Short(Echo):
        def run(self, sequences: Any) -> Any:
            yield
            return [sequence.ids for sequence in sequences[1:]]

    job = job_of(Short(), 0, [8] * 3)
    run(job)
    assert type(error_of(job)) is EngineError


def test_nothing_is_computed_for_a_job_whose_time_is_up() -> None:
    runner = Echo()
    job = job_of(runner, 0, [8], Watch(deadline=monotonic() - 1))
    assert run(job) == []
    assert runner.batches == []
    assert isinstance(error_of(job), DeadlineExceeded)


def test_a_batch_that_nobody_waits_for_ends_between_two_steps_and_is_closed() -> None:
    runner = Echo(steps=10)
    jobs = [job_of(runner, name) for name in range(2)]
    steps = batch_of(*jobs).steps()
    next(steps)
    jobs[0].answer.cancel()
    next(steps)
    jobs[1].watch.abandon()
    assert list(steps) == []
    assert (runner.steps_taken, runner.closed) == (2, 1)
    assert jobs[1].answer.done()


def test_a_deadline_that_passes_while_a_batch_runs_is_told() -> None:
    watch = Watch(deadline=monotonic() + 60)
    runner = Echo(steps=10)
    job = job_of(runner, 0, [8], watch)
    steps = batch_of(job).steps()
    next(steps)
    watch.deadline = monotonic() - 1
    assert list(steps) == []
    assert isinstance(error_of(job), DeadlineExceeded)


def test_a_batch_goes_on_for_those_who_still_wait() -> None:
    runner = Echo(steps=3)
    gone, waits = job_of(runner, 0), job_of(runner, 1)
    steps = batch_of(gone, waits).steps()
    next(steps)
    gone.watch.abandon()
    list(steps)
    assert waits.answer.result(0) == expected(waits)


def test_those_who_have_gone_are_left_out_when_a_batch_is_tried_again() -> None:
    watch = Watch()

    def fails(batch: fake_models.Batch) -> BaseException | None:
        watch.abandon()
        return takes_at_most(2)(batch)

    runner = Echo(fails=fails)
    gone, waits = job_of(runner, 0, [8], watch), job_of(runner, 1, [8] * 3)
    run(gone, waits)
    assert waits.answer.result(0) == expected(waits)
    assert [[ids[0] for ids in batch] for batch in runner.batches] == [[0, 1, 1, 1], [1], [1, 1]]


def test_closing_a_batch_closes_the_runners_work_and_settles_nothing() -> None:
    runner = Echo(steps=10)
    job = job_of(runner)
    steps = batch_of(job).steps()
    next(steps)
    steps.close()
    assert runner.closed == 1
    assert not job.answer.done()


def test_what_is_no_exception_passes_through() -> None:
    class Panic(BaseException):
        pass

    job = job_of(Echo(fails=lambda _: Panic()))
    with pytest.raises(Panic):
        run(job)


@pytest.mark.parametrize(("tokens", "told"), [(2048, True), (1024, True), (100, False)])
def test_only_a_batch_that_is_half_full_lowers_the_rate(
    tokens: int, told: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = [0.0]

    class Takes(Echo):
        def step(self, batch: fake_models.Batch) -> None:
            clock[0] += 1.0

    monkeypatch.setattr(batches, "perf_counter", lambda: clock[0])
    rate = Rate(1e6)
    job = Job(Takes(batch_tokens=2048), sequences_of(0, [tokens]), Watch(), Ticket(rate, 0.0))
    run(job)
    assert (rate.per_second < 1e6) is told


def test_the_time_that_others_take_between_two_steps_is_not_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [0.0]

    class Takes(Echo):
        def step(self, batch: fake_models.Batch) -> None:
            clock[0] += 1.0

    monkeypatch.setattr(batches, "perf_counter", lambda: clock[0])
    rate = Rate(1.0)
    job = Job(Takes(batch_tokens=600, steps=3), sequences_of(0, [600]), Watch(), Ticket(rate, 0.0))
    took = []
    for seconds in batch_of(job).steps():
        took.append(seconds)
        clock[0] += 100.0
    assert took == [1.0] * 3
    assert rate.per_second == pytest.approx(1.0 + 0.2 * (job.sequences[0].cost / 3 - 1.0))


def test_the_first_sequence_fits_at_any_length_and_no_other_beyond_the_room() -> None:
    batch = Batch(Echo(batch_tokens=100), front=True)
    long, short = sequences_of(0, [500, 8])
    assert batch.fits(long)
    batch.add(job_of(batch.runner, 0, [500]), 0)
    assert not batch.fits(short)
    assert not batch.open


def test_every_error_that_comes_out_is_fit_to_show() -> None:
    for cause in (ValueError("secret"), MemoryError("secret"), KeyError("secret")):
        job = job_of(Echo(fails=lambda _, cause=cause: cause))  # type: ignore[misc]
        run(job)
        error = error_of(job)
        assert isinstance(error, RerankError)
        assert "secret" not in error.message
