from __future__ import annotations

import threading

import pytest

from rerankd.engine import worker as workers
from rerankd.engine.worker import Worker
from tests.engine.fake_models import PATIENCE, Panic


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "REVIVAL", 0.01)


def test_it_works_until_its_work_returns_and_closing_waits_for_that() -> None:
    told, seen = threading.Event(), threading.Event()

    def work() -> None:
        told.wait(PATIENCE)
        seen.set()

    worker = Worker("w", work, lambda: None)
    assert worker.alive
    assert not worker.close(0.0), "it is still at work"
    told.set()
    assert worker.close(PATIENCE)
    assert seen.is_set()
    assert not worker.alive


@pytest.mark.parametrize("end", [Panic(), SystemExit(), KeyboardInterrupt(), ValueError(), None])
def test_however_it_ends_it_is_started_again_after_that_has_been_told(
    end: BaseException | None, caplog: pytest.LogCaptureFixture
) -> None:
    happened: list[str] = []
    again, over = threading.Event(), threading.Event()

    def work() -> None:
        happened.append("works")
        if len(happened) > 1:
            again.set()
            over.wait(PATIENCE)
        elif end is not None:
            raise end

    worker = Worker("w", work, lambda: happened.append("died"))
    assert again.wait(PATIENCE)
    assert worker.alive
    over.set()
    assert worker.close(PATIENCE)
    assert happened == ["works", "died", "works"]
    assert ("started again" in caplog.text) is (end is not None)


def test_it_is_started_again_as_often_as_it_dies() -> None:
    lives: list[None] = []
    enough = threading.Event()

    def work() -> None:
        lives.append(None)
        if len(lives) == 5:
            enough.set()
        raise Panic

    worker = Worker("w", work, lambda: None)
    assert enough.wait(PATIENCE)
    assert worker.close(PATIENCE)
    count = len(lives)
    assert not worker.alive
    assert len(lives) == count


def test_a_thread_that_cannot_be_started_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    lives: list[None] = []
    failures: list[None] = []
    alive, over = threading.Event(), threading.Event()
    start = Worker._start

    def refuses_twice(worker: Worker) -> threading.Thread:
        if lives and len(failures) < 2:
            failures.append(None)
            raise RuntimeError("can't start new thread")
        return start(worker)

    def work() -> None:
        lives.append(None)
        if len(lives) == 2:
            alive.set()
            over.wait(PATIENCE)

    monkeypatch.setattr(Worker, "_start", refuses_twice)
    worker = Worker("w", work, lambda: None)
    assert alive.wait(PATIENCE)
    over.set()
    assert worker.close(PATIENCE)
    assert len(failures) == 2


def test_one_that_is_closed_while_it_is_dead_is_not_started_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "REVIVAL", PATIENCE)
    lives: list[None] = []
    died = threading.Event()

    def work() -> None:
        lives.append(None)
        raise Panic

    worker = Worker("w", work, died.set)
    assert died.wait(PATIENCE)
    assert not worker.alive
    assert worker.close(PATIENCE / 2)
    assert len(lives) == 1
