from __future__ import annotations

import asyncio
import errno
import logging
import os
from collections.abc import Callable, Iterator, Sequence
from threading import Event, Lock, Thread, get_ident

import pytest

from rerankd.errors import StoreUnavailable
from rerankd.store import group_commit
from rerankd.store.group_commit import GroupCommit

Make = Callable[..., GroupCommit]


class Paper:
    """A journal in memory. It says how many items each commit had, and which thread it was in; `fails` are what the next
    commits raise, None where one goes well.
    """

    def __init__(self) -> None:
        self.kept: list[bytes] = []
        self.sizes: list[int] = []
        self.threads: list[int] = []
        self.fails: list[BaseException | None] = []
        self.room = True
        self._busy = Lock()

    def has_room(self, size: int) -> bool:
        return self.room

    def append(self, payloads: Sequence[bytes]) -> None:
        assert self._busy.acquire(blocking=False), "two threads append at once"
        self.threads.append(get_ident())
        self._write(payloads)
        self.sizes.append(len(payloads))
        self.kept += payloads
        self._busy.release()

    def _write(self, payloads: Sequence[bytes]) -> None:
        failure = self.fails.pop(0) if self.fails else None
        if failure is not None:
            self._busy.release()
            raise failure


class Gate(Paper):
    """It waits until it is let go."""

    def __init__(self) -> None:
        super().__init__()
        self.entered, self.go = Event(), Event()

    def _write(self, payloads: Sequence[bytes]) -> None:
        self.entered.set()
        assert self.go.wait(10)
        super()._write(payloads)

    async def reached(self) -> None:
        assert await asyncio.to_thread(self.entered.wait, 10)

    def shut(self) -> None:
        self.entered.clear()
        self.go.clear()


def full() -> OSError:
    return OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def numbers(*values: int) -> list[bytes]:
    return [b"%d" % value for value in values]


@pytest.fixture
def paper() -> Paper:
    return Paper()


@pytest.fixture
def gate() -> Gate:
    return Gate()


@pytest.fixture
def commits() -> Iterator[Make]:
    made: list[GroupCommit] = []

    def make(journal: Paper) -> GroupCommit:
        made.append(GroupCommit(journal, "things"))
        return made[-1]

    yield make
    for one in made:
        one.close()


@pytest.fixture
def any_disk_is_quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(group_commit, "QUICK", 100.0)


@pytest.fixture
def no_disk_is_quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(group_commit, "QUICK", 0.0)


async def put_all(things: GroupCommit, items: Sequence[bytes]) -> list[int]:
    """As requests do that are about to be through at once: each knows whether others are still to come."""
    coming = range(len(items) - 1, -1, -1)
    return await asyncio.gather(*(things.put(item, others=left > 0) for item, left in zip(items, coming, strict=True)))


async def test_what_was_put_is_kept_when_put_returns(commits: Make, paper: Paper) -> None:
    things = commits(paper)
    for number in range(1, 20):
        assert await things.put(b"%d" % number) == number
        assert paper.kept == numbers(*range(1, number + 1))
        assert (things.decided, things.waiting) == (number, 0)


async def test_who_comes_while_a_commit_runs_shares_the_next_one(commits: Make, gate: Gate) -> None:
    things = commits(gate)
    first = asyncio.create_task(things.put(b"0"))
    await gate.reached()
    others = [asyncio.create_task(things.put(item)) for item in numbers(*range(1, 9))]
    await asyncio.sleep(0)
    assert (things.decided, things.waiting) == (0, 9)
    gate.go.set()
    assert [await one for one in (first, *others)] == list(range(1, 10))
    assert gate.sizes == [1, 8]
    assert gate.kept == numbers(*range(9))


async def test_a_commit_that_fails_fails_those_that_share_it_and_nobody_later(commits: Make, gate: Gate) -> None:
    things = commits(gate)
    gate.fails = [None, full()]
    first = asyncio.create_task(things.put(b"0"))
    await gate.reached()
    batch = [asyncio.create_task(things.put(item)) for item in numbers(1, 2)]
    await asyncio.sleep(0)
    gate.go.set()
    assert await first == 1
    found = await asyncio.gather(*batch, return_exceptions=True)
    assert [type(one) for one in found] == [StoreUnavailable] * 2
    assert found[0] is not found[1]
    assert (things.decided, things.waiting) == (3, 0)
    assert await things.put(b"3") == 4
    assert gate.kept == numbers(0, 3)


# In the thread that calls.


@pytest.mark.usefixtures("any_disk_is_quick")
async def test_who_is_alone_where_the_disk_is_quick_writes_at_once(commits: Make, paper: Paper) -> None:
    things = commits(paper)
    await things.put(b"0")  # nobody knows yet how quick it is
    for item in numbers(1, 2):
        writing = things.put(item)
        with pytest.raises(StopIteration):
            writing.send(None)  # it is through without the event loop
    assert paper.kept == numbers(0, 1, 2)
    assert paper.threads[0] != get_ident()
    assert paper.threads[1:] == [get_ident()] * 2


@pytest.mark.usefixtures("no_disk_is_quick")
async def test_a_disk_that_was_slow_the_last_time_keeps_the_event_loop_free(commits: Make, paper: Paper) -> None:
    things = commits(paper)
    for item in numbers(0, 1, 2):
        await things.put(item)
    assert get_ident() not in paper.threads


@pytest.mark.usefixtures("any_disk_is_quick")
async def test_a_journal_that_needs_another_file_keeps_the_event_loop_free(commits: Make, paper: Paper) -> None:
    things = commits(paper)
    await things.put(b"0")
    paper.room = False
    await things.put(b"1")
    assert get_ident() not in paper.threads
    paper.room = True
    await things.put(b"2")
    assert paper.threads[-1] == get_ident()


@pytest.mark.usefixtures("any_disk_is_quick")
async def test_a_disk_that_has_failed_keeps_the_event_loop_free_until_it_does_not(commits: Make, paper: Paper) -> None:
    things = commits(paper)
    await things.put(b"0")
    paper.fails = [full(), full()]
    for _ in range(2):  # in the loop's own thread, then in the other
        with pytest.raises(StoreUnavailable):
            await things.put(b"lost")
    await things.put(b"1")
    await things.put(b"2")
    here = get_ident()
    assert [thread == here for thread in paper.threads] == [False, True, False, False, True]
    assert paper.kept == numbers(0, 1, 2)
    assert (things.decided, things.waiting) == (5, 0)


@pytest.mark.usefixtures("any_disk_is_quick")
async def test_who_comes_after_what_waits_waits_with_it(commits: Make, gate: Gate) -> None:
    things = commits(gate)
    gate.go.set()
    await things.put(b"0")
    gate.shut()
    things.put_nowait(b"1")
    await gate.reached()
    last = asyncio.create_task(things.put(b"2"))
    await asyncio.sleep(0)
    gate.go.set()
    assert await last == 3
    assert get_ident() not in gate.threads
    assert gate.kept == numbers(0, 1, 2)


@pytest.mark.usefixtures("any_disk_is_quick")
async def test_who_comes_after_those_who_gather_goes_with_them(commits: Make, paper: Paper) -> None:
    things = commits(paper)
    await things.put(b"0")
    gathering = asyncio.create_task(things.put(b"1", others=True))
    await asyncio.sleep(0)
    assert await things.put(b"2") == 3
    assert await gathering == 2
    assert paper.sizes == [1, 2]
    assert paper.kept == numbers(0, 1, 2)


@pytest.mark.usefixtures("any_disk_is_quick")
def test_nothing_is_ever_appended_by_two_threads_at_once(commits: Make, paper: Paper) -> None:
    things = commits(paper)
    done = Event()

    def note() -> None:
        while not done.is_set():
            sequence = things.put_nowait(b"noted")
            while things.decided < sequence and not done.is_set():
                pass

    async def put() -> None:
        for number in range(1000):
            sequence = await things.put(b"put %d" % number)
            assert things.decided >= sequence
            decided = things.decided
            assert len(paper.kept) >= decided

    thread = Thread(target=note)
    thread.start()
    try:
        asyncio.run(put())
    finally:
        done.set()
        thread.join()
    things.close()
    assert [item for item in paper.kept if item != b"noted"] == [b"put %d" % number for number in range(1000)]
    assert things.decided == len(paper.kept)


@pytest.mark.usefixtures("any_disk_is_quick")
async def test_what_another_thread_puts_at_that_very_moment_is_decided_when_it_was_appended(commits: Make) -> None:
    class Interrupted(Gate):
        """Another thread is faster by a hair."""

        def has_room(self, size: int) -> bool:
            self.shut()
            interrupting = Thread(target=things.put_nowait, args=(b"noted",))
            interrupting.start()
            interrupting.join()
            assert self.entered.wait(10)
            self.has_room = super().has_room  # type: ignore[method-assign]
            return True

    journal = Interrupted()
    journal.go.set()
    things = commits(journal)
    await things.put(b"0")
    putting = asyncio.create_task(things.put(b"1"))
    await asyncio.sleep(0)
    assert things.decided == 1
    journal.go.set()
    assert await putting == 3
    assert (things.decided, things.waiting) == (3, 0)
    assert journal.kept == [b"0", b"noted", b"1"]


# Together with others.


@pytest.mark.usefixtures("any_disk_is_quick")
@pytest.mark.parametrize("count", [2, 3, 8, 9])
async def test_a_commit_begins_when_the_last_of_those_who_come_is_there(
    commits: Make, paper: Paper, monkeypatch: pytest.MonkeyPatch, count: int
) -> None:
    monkeypatch.setattr(group_commit, "GATHERED", 100.0)  # nobody waits for that
    things = commits(paper)
    items = numbers(*range(count))
    assert await put_all(things, items) == list(range(1, count + 1))
    assert sum(paper.sizes) == count
    assert paper.kept == items


async def test_who_waits_for_others_that_do_not_come_waits_a_moment(commits: Make, paper: Paper) -> None:
    things = commits(paper)
    assert await asyncio.wait_for(things.put(b"0", others=True), 10) == 1
    assert paper.kept == [b"0"]


# What goes wrong.


async def test_a_full_disk_fails_what_is_put_and_is_forgotten_when_there_is_space(
    commits: Make, paper: Paper, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    things = commits(paper)
    await things.put(b"small")
    paper.fails = [full()]
    with pytest.raises(StoreUnavailable) as caught:
        await things.put(b"canary")
    assert caught.value.retry_after
    assert not things.healthy
    assert "No space left on device" in caplog.text
    with monkeypatch.context() as patch:
        patch.setattr(group_commit, "HEALS_AFTER", 0.0)
        assert things.healthy  # after a while the next one is let try
    await things.put(b"again")
    assert things.healthy
    assert paper.kept == [b"small", b"again"]


async def test_an_error_of_another_kind_is_in_the_log_without_its_words(
    commits: Make, paper: Paper, caplog: pytest.LogCaptureFixture
) -> None:
    things = commits(paper)
    paper.fails = [ValueError("canary")]
    with pytest.raises(StoreUnavailable):
        await things.put(b"canary")
    assert "ValueError" in caplog.text
    assert "canary" not in caplog.text
    assert await things.put(b"next") == 2


async def test_the_item_of_a_caller_that_went_away_is_written(commits: Make, gate: Gate) -> None:
    things = commits(gate)
    waiting = asyncio.create_task(things.put(b"a"))
    gathering = asyncio.create_task(things.put(b"b", others=True))
    await gate.reached()
    for one in (waiting, gathering):
        one.cancel()
        with pytest.raises(asyncio.CancelledError):
            await one
    gate.go.set()
    await things.put(b"c")
    assert gate.kept == [b"a", b"b", b"c"]


async def test_closing_writes_what_is_left_and_takes_no_more(commits: Make, paper: Paper) -> None:
    things = commits(paper)
    assert [things.put_nowait(item) for item in numbers(*range(1000))] == list(range(1, 1001))
    gathering = asyncio.create_task(things.put(b"1000", others=True))
    await asyncio.sleep(0)
    things.close()
    things.close()
    assert await gathering == 1001
    assert paper.kept == numbers(*range(1001))
    with pytest.raises(StoreUnavailable, match="stopping"):
        things.put_nowait(b"late")
    with pytest.raises(StoreUnavailable, match="stopping"):
        await things.put(b"late")
    assert not things.healthy


@pytest.mark.usefixtures("any_disk_is_quick")
async def test_what_is_closed_takes_nothing_from_who_is_alone_either(commits: Make, paper: Paper) -> None:
    things = commits(paper)
    await things.put(b"0")
    things.close()
    with pytest.raises(StoreUnavailable, match="stopping"):
        await things.put(b"late")
    assert paper.kept == [b"0"]


def test_an_event_loop_that_is_gone_harms_nobody(commits: Make, gate: Gate) -> None:
    things = commits(gate)

    async def give_up() -> None:
        waiting = asyncio.create_task(things.put(b"a"))
        await gate.reached()
        waiting.cancel()
        asyncio.create_task(things.put(b"b", others=True)).add_done_callback(lambda _: None)
        await asyncio.sleep(0)

    async def go_on() -> None:
        async with asyncio.timeout(10):
            await things.put(b"c", others=True)

    asyncio.run(give_up())
    gate.go.set()
    asyncio.run(go_on())
    assert gate.kept == [b"a", b"b", b"c"]


async def test_a_thread_that_dies_leaves_nobody_waiting(
    commits: Make, gate: Gate, caplog: pytest.LogCaptureFixture
) -> None:
    class Fatal(BaseException):
        pass

    things = commits(gate)
    gate.fails = [Fatal("canary")]
    first = asyncio.create_task(things.put(b"1"))
    await gate.reached()
    second = asyncio.create_task(things.put(b"2"))
    await asyncio.sleep(0)
    gate.go.set()
    found = await asyncio.wait_for(asyncio.gather(first, second, return_exceptions=True), 10)
    assert [type(one) for one in found] == [StoreUnavailable] * 2
    with pytest.raises(StoreUnavailable):
        await things.put(b"3")
    assert not things.healthy
    assert "has died of Fatal" in caplog.text
    assert "canary" not in caplog.text


async def test_a_disk_that_stands_still_is_noticed_and_does_not_fill_the_memory(
    commits: Make, gate: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(group_commit, "MOST_WAITING", 2)
    monkeypatch.setattr(group_commit, "STUCK_AFTER", 0.0)
    things = commits(gate)
    first = asyncio.create_task(things.put(b"0"))
    await gate.reached()
    assert not things.healthy
    things.put_nowait(b"1")
    things.put_nowait(b"2")
    with pytest.raises(StoreUnavailable, match="Too much waits"):
        things.put_nowait(b"3")
    with pytest.raises(StoreUnavailable, match="Too much waits"):
        await things.put(b"3")
    gate.go.set()
    await first


async def test_a_disk_that_is_full_for_long_does_not_fill_the_log(
    commits: Make, paper: Paper, caplog: pytest.LogCaptureFixture
) -> None:
    things = commits(paper)
    paper.fails = [full() for _ in range(20)]
    with caplog.at_level(logging.ERROR):
        for _ in range(20):
            with pytest.raises(StoreUnavailable):
                await things.put(b"a")
    assert len(caplog.records) == 1
