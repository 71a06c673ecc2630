from __future__ import annotations

import asyncio
import gc
import logging
import threading
import weakref
from collections.abc import Awaitable, Callable, Iterator
from itertools import count
from time import monotonic
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rerankd.engine import batch as batches
from rerankd.engine import scheduler
from rerankd.engine import worker as workers
from rerankd.engine.job import Job
from rerankd.engine.scheduler import Device
from rerankd.engine.scorer import Watch
from rerankd.errors import DeadlineExceeded, EngineError, Overloaded, Refused, RerankError
from rerankd.types import Priority
from tests.engine import fake_models
from tests.engine.fake_models import PATIENCE, Echo, Gated, Panic, dead_until_told, expected, job_of

Task = asyncio.Task[list[Any]]


@pytest.fixture
def device() -> Iterator[Device]:
    device = Device("test")
    yield device
    device.close()


@pytest.fixture
def make_gated(device: Device) -> Iterator[Callable[..., Gated]]:
    """Runners that hold nothing up any more when the device is closed."""
    made: list[Gated] = []

    def make(**how: Any) -> Gated:
        made.append(Gated(**how))
        return made[-1]

    yield make
    for runner in made:
        runner.open()


@pytest.fixture
def _steps_of_a_second(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batches, "perf_counter", count(0.0, 1.0).__next__)


async def begin(device: Device, job: Job, priority: Priority = "interactive") -> Task:
    """Its task, once it is in the queue."""
    task = asyncio.create_task(device.run(job, priority))
    while job not in device.jobs and not task.done():
        await asyncio.sleep(0)
    return task


async def soon(waiting: Awaitable[Any]) -> Any:
    return await asyncio.wait_for(waiting, PATIENCE)


async def becomes(condition: Callable[[], bool]) -> None:
    end = monotonic() + PATIENCE
    while not condition():
        assert monotonic() < end
        await asyncio.sleep(0.001)


def names(batch: fake_models.Batch) -> set[int]:
    return {ids[0] for ids in batch}


async def test_a_job_gets_its_results_and_has_left(device: Device) -> None:
    job = job_of(Echo(steps=3), 7, [8, 3, 5])
    assert await soon(device.run(job)) == expected(job)
    assert device.jobs == set()


async def test_all_work_runs_on_one_thread_beside_the_event_loop(device: Device) -> None:
    ran: list[threading.Thread] = []

    class Tells(Echo):
        def step(self, batch: fake_models.Batch) -> None:
            ran.append(threading.current_thread())

    runner = Tells(steps=2)
    await soon(asyncio.gather(*(device.run(job_of(runner, name)) for name in range(20))))
    assert len(set(ran)) == 1
    assert ran[0] is not threading.current_thread()


async def test_what_has_gathered_while_the_device_was_busy_is_one_batch(
    device: Device, make_gated: Callable[..., Gated]
) -> None:
    runner = make_gated()
    first = await begin(device, job_of(runner, 0))
    await runner.reached()
    others = [await begin(device, job_of(runner, name)) for name in range(1, 6)]
    runner.open()
    await soon(asyncio.gather(first, *others))
    assert [names(batch) for batch in runner.batches] == [{0}, {1, 2, 3, 4, 5}]


async def test_a_lone_job_waits_for_nobody(device: Device) -> None:
    runner = Echo()
    for name in range(50):
        await soon(device.run(job_of(runner, name)))
    assert len(runner.batches) == 50


@pytest.mark.usefixtures("_steps_of_a_second")
async def test_ten_documents_are_done_while_requests_of_a_thousand_keep_coming(
    device: Device, make_gated: Callable[..., Gated]
) -> None:
    runner = make_gated(steps=4)
    large = [await begin(device, job_of(runner, 100 + name, [60] * 1000)) for name in range(4)]
    waited = []
    await runner.reached()
    for name in range(10):
        large.append(await begin(device, job_of(runner, 200 + name, [60] * 1000)))
        job = job_of(runner, name, [60] * 10)
        small, steps = await begin(device, job), 0
        while not job.answer.done():
            runner.let_go()
            await runner.reached()
            steps += 1
        assert await soon(small) == expected(job)
        waited.append(steps)
    assert not any(task.done() for task in large)
    assert max(waited) <= 24, "the steps of six batches, where all that is large takes 1,600"


@pytest.mark.usefixtures("_steps_of_a_second")
async def test_a_batch_of_a_large_job_is_interrupted_between_two_steps(
    device: Device, make_gated: Callable[..., Gated]
) -> None:
    runner = make_gated(steps=10)
    large = await begin(device, job_of(runner, 1, [60] * 30), "batch")
    await runner.reached()
    small = await begin(device, job_of(runner, 2, [60] * 10))
    runner.let_go(11)  # one step of the large one's, all of the small one's
    assert len(await soon(small)) == 10
    assert not large.done()
    assert runner.steps_taken == 11
    runner.open()
    assert len(await soon(large)) == 30
    assert [names(batch) for batch in runner.batches] == [{1}, {2}]


async def test_a_thousand_documents_are_done_while_small_requests_keep_coming(device: Device) -> None:
    runner = Echo(steps=2)
    large = await begin(device, job_of(runner, 1, [60] * 1000))

    async def keeps_coming(name: int) -> None:
        while not large.done():
            await device.run(job_of(runner, name, [60] * 10))

    await soon(asyncio.gather(large, *(keeps_coming(name) for name in range(2, 10))))


async def test_what_can_wait_waits(device: Device, make_gated: Callable[..., Gated]) -> None:
    runner = make_gated()
    first = await begin(device, job_of(runner, 0))
    await runner.reached()
    patient = await begin(device, job_of(runner, 1), "batch")
    person = await begin(device, job_of(runner, 2))
    runner.open()
    await soon(asyncio.gather(first, patient, person))
    assert [names(batch) for batch in runner.batches] == [{0}, {2}, {1}]


@pytest.mark.usefixtures("_steps_of_a_second")
async def test_two_models_of_one_device_both_get_on(device: Device, make_gated: Callable[..., Gated]) -> None:
    one, two = make_gated(), make_gated()
    tasks = [await begin(device, job_of(one, 1, [60] * 1000)), await begin(device, job_of(two, 2, [60] * 1000))]
    for _ in range(10):  # neither can be reached ten times unless the other is let go
        await one.reached()
        one.let_go()
        await two.reached()
        two.let_go()
    one.open()
    two.open()
    await soon(asyncio.gather(*tasks))
    assert {name for batch in one.batches for name in names(batch)} == {1}
    assert {name for batch in two.batches for name in names(batch)} == {2}


async def test_nothing_of_a_job_is_computed_whose_deadline_passed_in_the_queue(
    device: Device, make_gated: Callable[..., Gated]
) -> None:
    runner = make_gated()
    first = await begin(device, job_of(runner, 0))
    await runner.reached()
    watch = Watch(deadline=monotonic() + 60)
    late = await begin(device, job_of(runner, 1, [8] * 10, watch))
    watch.deadline = monotonic() - 1
    runner.open()
    with pytest.raises(DeadlineExceeded):
        await soon(late)
    await soon(first)
    assert [names(batch) for batch in runner.batches] == [{0}]


async def test_a_job_whose_deadline_passes_while_it_runs_ends_between_two_steps(
    device: Device, make_gated: Callable[..., Gated]
) -> None:
    runner = make_gated(steps=10)
    watch = Watch(deadline=monotonic() + 60)
    late = await begin(device, job_of(runner, 1, [8], watch))
    await runner.reached()
    watch.deadline = monotonic() - 1
    runner.let_go()
    with pytest.raises(DeadlineExceeded):
        await soon(late)
    assert runner.steps_taken == 1


async def test_a_queued_job_whose_caller_has_gone_leaves_the_queue_at_once(
    device: Device, make_gated: Callable[..., Gated]
) -> None:
    runner = make_gated()
    first = await begin(device, job_of(runner, 0))
    await runner.reached()
    gone = await begin(device, job_of(runner, 1))
    gone.cancel()
    with pytest.raises(asyncio.CancelledError):
        await soon(gone)
    assert len(device.jobs) == 1, "while the device is still at the step that it was at"
    assert device._turns.jobs == set()
    runner.open()
    await soon(first)
    await soon(device.run(job_of(runner, 2)))
    assert [names(batch) for batch in runner.batches] == [{0}, {2}]


async def test_a_running_job_whose_caller_has_gone_ends_between_two_steps(
    device: Device, make_gated: Callable[..., Gated]
) -> None:
    runner = make_gated(steps=10, batch_tokens=100)
    job = job_of(runner, 1, [60] * 100)
    gone = await begin(device, job)
    await runner.reached()
    gone.cancel()
    with pytest.raises(asyncio.CancelledError):
        await soon(gone)
    runner.let_go()
    await soon(device.run(job_of(Echo(), 2)))
    assert (runner.steps_taken, runner.closed, len(runner.batches)) == (1, 1, 1)
    assert job.watch.over


async def test_a_failing_job_fails_alone(device: Device, make_gated: Callable[..., Gated]) -> None:
    runner = make_gated(fails=lambda batch: ValueError("x") if 2 in names(batch) else None)
    busy = await begin(device, job_of(runner, 0))
    await runner.reached()
    jobs = [job_of(runner, name, [8, 9]) for name in range(1, 4)]
    tasks = [await begin(device, job) for job in jobs]
    runner.open()
    answers = await soon(asyncio.gather(*tasks, return_exceptions=True))
    assert (answers[0], answers[2]) == (expected(jobs[0]), expected(jobs[2]))
    assert type(answers[1]) is EngineError
    await soon(busy)
    assert names(runner.batches[1]) == {1, 2, 3}, "they were in one batch"


async def test_without_memory_for_one_sequence_the_answer_is_a_503_and_the_next_job_is_served(device: Device) -> None:
    runner = Echo(fails=lambda batch: MemoryError() if any(len(ids) > 100 for ids in batch) else None)
    with pytest.raises(Overloaded) as caught:
        await soon(device.run(job_of(runner, 0, [8, 200, 8])))
    assert caught.value.retry_after is not None
    assert len(await soon(device.run(job_of(runner, 1, [8] * 30)))) == 30


async def test_what_dies_with_the_worker_is_refused_and_the_rest_is_served_by_the_next(
    device: Device, make_gated: Callable[..., Gated], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(workers, "REVIVAL", 0.01)
    deadly = make_gated(fails=lambda batch: Panic())
    struck = await begin(device, job_of(deadly, 1, [8] * 10_000))
    await deadly.reached()
    good = Echo()
    queued = await begin(device, job_of(good, 2))
    deadly.let_go()
    with pytest.raises(Refused) as caught:
        await soon(struck)
    assert (caught.value.status, caught.value.retryable) == (503, True)
    assert len(await soon(queued)) == 1
    assert len(await soon(device.run(job_of(good, 3)))) == 1
    assert len(deadly.batches) == 1, "what was left of it is not tried again"
    assert "Panic" in caplog.text


async def test_a_dead_worker_is_trouble_until_it_lives_again(device: Device, monkeypatch: pytest.MonkeyPatch) -> None:
    assert device.trouble is None
    with dead_until_told(monkeypatch) as told:
        with pytest.raises(Refused):
            await soon(device.run(job_of(Echo(fails=lambda batch: Panic()))))
        assert "died" in str(device.trouble)
        waiting = await begin(device, job_of(Echo()))
        assert "died" in str(device.trouble)
        told.set()
        assert len(await soon(waiting)) == 1
        assert device.trouble is None


@pytest.mark.usefixtures("_steps_of_a_second")
async def test_a_batch_that_was_interrupted_by_what_killed_the_worker_is_refused_too(
    device: Device, make_gated: Callable[..., Gated], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workers, "REVIVAL", 0.01)
    runner = make_gated(steps=5)
    interrupted = await begin(device, job_of(runner, 1, [60] * 10), "batch")
    await runner.reached()
    struck = await begin(device, job_of(Echo(fails=lambda batch: Panic()), 2))
    runner.let_go()
    for task in (struck, interrupted):
        with pytest.raises(Refused):
            await soon(task)
    assert runner.closed == 1
    assert len(await soon(device.run(job_of(Echo())))) == 1


async def test_a_bug_of_our_own_on_the_devices_thread_leaves_nobody_waiting(
    device: Device, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workers, "REVIVAL", 0.01)

    def broken(*_: Any) -> None:
        raise ZeroDivisionError

    with monkeypatch.context() as patch:
        patch.setattr(Job, "done", broken)
        with pytest.raises(Refused):
            await soon(device.run(job_of(Echo())))
    assert len(await soon(device.run(job_of(Echo())))) == 1


async def test_a_worker_that_does_not_move_is_trouble(
    device: Device, make_gated: Callable[..., Gated], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scheduler, "STALLED", 0.0)
    assert device.trouble is None, "it has nothing to do"
    runner = make_gated()
    stuck = await begin(device, job_of(runner))
    await runner.reached()
    await becomes(lambda: "not moved" in str(device.trouble))
    runner.open()
    await soon(stuck)
    await becomes(lambda: device.trouble is None)


async def test_closing_refuses_what_waits_and_what_runs(make_gated: Callable[..., Gated]) -> None:
    device, runner = Device("closed"), make_gated(steps=100)
    tasks = [await begin(device, job_of(runner, 0, [60] * 1000))]
    await runner.reached()
    tasks += [await begin(device, job_of(runner, name), "batch") for name in range(1, 5)]
    closing = asyncio.create_task(asyncio.to_thread(device.close))
    for task in tasks:
        with pytest.raises(Refused):
            await soon(task)
    runner.let_go()
    await soon(closing)
    assert runner.steps_taken == 1, "the step that ran was its last"
    with pytest.raises(Refused):
        await soon(device.run(job_of(runner)))
    with pytest.raises(Refused):
        device.call(lambda: 7)
    device.close()


async def test_closing_does_not_wait_for_ever_for_a_step(
    make_gated: Callable[..., Gated], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scheduler, "LAST_STEP", 0.01)
    device, runner = Device("stuck"), make_gated()
    stuck = await begin(device, job_of(runner))
    await runner.reached()
    await soon(asyncio.to_thread(device.close))
    with pytest.raises(Refused):
        await soon(stuck)


async def test_closing_while_the_worker_is_dead_leaves_nobody_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "REVIVAL", PATIENCE)  # closing cuts this wait short
    device = Device("dead")
    with pytest.raises(Refused):
        await soon(device.run(job_of(Echo(fails=lambda batch: Panic()))))
    waiting = await begin(device, job_of(Echo()))
    await soon(asyncio.to_thread(device.close))
    with pytest.raises(Refused):
        await soon(waiting)


def test_closing_gives_every_thread_back() -> None:
    before = set(threading.enumerate())
    device = Device("threads")
    device.call(lambda: None)
    assert len(set(threading.enumerate()) - before) == 2
    device.close()
    assert set(threading.enumerate()) == before


async def test_calls_are_made_on_the_devices_thread_between_two_batches(
    device: Device, make_gated: Callable[..., Gated]
) -> None:
    ran: list[str] = []

    class Tells(Echo):
        def step(self, batch: fake_models.Batch) -> None:
            ran.append(threading.current_thread().name)

    await soon(device.run(job_of(Tells())))
    assert await asyncio.to_thread(device.call, lambda: threading.current_thread().name) == ran[0]

    def fails() -> None:
        raise ValueError("mine")

    with pytest.raises(ValueError, match="mine"):
        device.call(fails)


async def test_a_call_that_kills_the_worker_says_so_and_the_next_is_made(
    device: Device, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workers, "REVIVAL", 0.01)

    def panics() -> None:
        raise Panic

    with pytest.raises(Panic):
        device.call(panics)
    assert device.call(lambda: 7) == 7


async def test_jobs_may_come_from_several_event_loops(device: Device) -> None:
    runner = Echo(steps=2)
    answers: dict[int, list[Any]] = {}

    def elsewhere(name: int) -> None:
        async def runs() -> list[Any]:
            return await asyncio.gather(*(device.run(job_of(runner, name, [8] * 20)) for _ in range(20)))

        answers[name] = asyncio.run(runs())

    threads = [threading.Thread(target=elsewhere, args=(name,)) for name in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        await soon(asyncio.to_thread(thread.join))
    for name in range(4):
        assert answers[name] == [expected(job_of(runner, name, [8] * 20))] * 20


@pytest.mark.parametrize("end", ["done", "failed", "cancelled", "late", "died"])
async def test_an_idle_device_holds_nothing_of_the_jobs_that_have_ended(
    end: str, device: Device, make_gated: Callable[..., Gated], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workers, "REVIVAL", 0.01)
    monkeypatch.setattr(logging.getLogger("rerankd.engine"), "disabled", True)  # pytest keeps what is logged
    failures = {"failed": ValueError, "died": Panic}
    runner = make_gated(steps=2, fails=lambda batch: failures[end]() if end in failures else None)
    gc.collect()
    gc.disable()  # with torch in memory a collection is seldom
    try:
        job = job_of(runner, 0, [8] * 10)
        kept = weakref.ref(job)
        task = await begin(device, job)
        await runner.reached()
        if end == "cancelled":
            task.cancel()
        if end == "late":
            job.watch.deadline = monotonic() - 1
        runner.open()
        del job
        await asyncio.wait({task}, timeout=PATIENCE)
        assert task.done()
        assert task.cancelled() or (task.exception() is None) is (end == "done")
        del task
        await becomes(lambda: kept() is None)
    finally:
        gc.enable()


Plan = tuple[int, list[int], str, str]
PLANS = st.lists(
    st.tuples(
        st.integers(0, 1),  # which runner
        st.lists(st.integers(2, 300), min_size=1, max_size=20),
        st.sampled_from(["good", "good", "good", "fails", "starves", "panics"]),
        st.sampled_from(["waits", "waits", "waits", "leaves", "late", "patient"]),
    ),
    min_size=1,
    max_size=12,
)


class Fated(Echo):
    """Fails as the jobs of a batch are fated to."""

    def __init__(self, fates: dict[int, str]) -> None:
        super().__init__(batch_tokens=256, steps=2, fails=self._fate)
        self._fates = fates

    def _fate(self, batch: fake_models.Batch) -> BaseException | None:
        fates = {self._fates[name] for name in names(batch)}
        if "panics" in fates:
            return Panic()
        if "fails" in fates:
            return ValueError("x")
        return MemoryError() if "starves" in fates and len(batch) > 1 else None


async def ended(device: Device, job: Job, how: str) -> Any:
    if how == "late":
        job.watch.deadline = monotonic() - 1
    task = await begin(device, job, "batch" if how == "patient" else "interactive")
    if how == "leaves":
        task.cancel()
    await asyncio.wait({task}, timeout=PATIENCE)
    assert task.done(), "a job that never ended"
    if task.cancelled():
        return "cancelled"
    return task.exception() or task.result()


def check(job: Job, outcome: Any, fate: str, how: str, panicked: bool) -> None:
    if how == "leaves":
        assert outcome == "cancelled"
    elif how == "late":
        assert isinstance(outcome, DeadlineExceeded)
    elif isinstance(outcome, RerankError):
        may = {"fails": (EngineError,), "panics": (Refused,)}.get(fate, ())
        assert isinstance(outcome, (*may, *((Refused,) if panicked else ())))
    else:
        assert fate in ("good", "starves")
        assert outcome == expected(job)


@settings(max_examples=50)
@given(plans=PLANS)
def test_whatever_happens_every_job_ends_once_and_with_its_own_results(plans: list[Plan]) -> None:
    fates = {name: fate for name, (_, _, fate, _) in enumerate(plans)}
    runners = [Fated(fates), Fated(fates)]
    jobs = [job_of(runners[runner], name, lengths) for name, (runner, lengths, _, _) in enumerate(plans)]

    async def scenario() -> list[Any]:
        device = Device("random")
        try:
            return await asyncio.gather(
                *(ended(device, job, how) for job, (_, _, _, how) in zip(jobs, plans, strict=True))
            )
        finally:
            assert device.jobs == set()
            device.close()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(workers, "REVIVAL", 0.001)
        outcomes = asyncio.run(scenario())
    panicked = "panics" in fates.values()
    for job, outcome, (_, _, fate, how) in zip(jobs, outcomes, plans, strict=True):
        check(job, outcome, fate, how, panicked)
