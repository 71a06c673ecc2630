from __future__ import annotations

import asyncio
import logging
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from threading import Event

import pytest

from rerankd.errors import StoreUnavailable
from rerankd.store import group_commit
from rerankd.store.durable_file import open_durable
from rerankd.store.group_commit import GroupCommit

Write = Callable[[sqlite3.Connection, Sequence[object]], None]
Make = Callable[..., GroupCommit[object]]


def insert(connection: sqlite3.Connection, items: Sequence[object]) -> None:
    connection.execute("BEGIN IMMEDIATE")
    connection.executemany("INSERT INTO things VALUES (?)", [(item,) for item in items])
    connection.execute("COMMIT")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "things.db"


@pytest.fixture
def commits(file: Path) -> Iterator[Make]:
    made: list[GroupCommit[object]] = []

    def opened() -> sqlite3.Connection:
        connection = open_durable(file)
        connection.execute("CREATE TABLE IF NOT EXISTS things (what)")
        return connection

    def make(write: Write = insert, opening: Callable[[], sqlite3.Connection] = opened) -> GroupCommit[object]:
        made.append(GroupCommit(opening, write, "things"))
        return made[-1]

    yield make
    for one in made:
        one.close()


def kept(file: Path) -> list[object]:
    connection = sqlite3.connect(file)
    found = [what for (what,) in connection.execute("SELECT what FROM things ORDER BY rowid")]
    connection.close()
    return found


class Gate:
    """A `write` that waits until it is let go, and says how many items each commit had."""

    def __init__(self) -> None:
        self.entered, self.go = Event(), Event()
        self.sizes: list[int] = []

    def __call__(self, connection: sqlite3.Connection, items: Sequence[object]) -> None:
        self.entered.set()
        assert self.go.wait(10)
        self.sizes.append(len(items))
        insert(connection, items)

    async def reached(self) -> None:
        assert await asyncio.to_thread(self.entered.wait, 10)


async def test_what_was_put_can_be_read_by_others_when_put_returns(commits: Make, file: Path) -> None:
    things = commits()
    assert await things.put("a") == 1
    assert kept(file) == ["a"]
    assert await things.put("b") == 2
    assert (kept(file), things.decided) == (["a", "b"], 2)
    assert file.stat().st_mode & 0o777 == 0o600


async def test_who_comes_while_a_commit_runs_shares_the_next_one(commits: Make, file: Path) -> None:
    gate = Gate()
    things = commits(gate)
    first = asyncio.create_task(things.put(0))
    await gate.reached()
    others = [asyncio.create_task(things.put(number)) for number in range(1, 9)]
    await asyncio.sleep(0)
    assert things.decided == 0
    gate.go.set()
    assert [await one for one in (first, *others)] == list(range(1, 10))
    assert gate.sizes == [1, 8]
    assert kept(file) == list(range(9))


async def test_one_that_cannot_be_written_fails_alone_and_its_value_is_in_no_log(
    commits: Make, file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    gate = Gate()
    things = commits(gate)
    first = asyncio.create_task(things.put(0))
    await gate.reached()
    batch = [asyncio.create_task(things.put(item)) for item in (1, "canary-\ud800", 2**70, 2)]
    await asyncio.sleep(0)
    gate.go.set()
    await first
    found = await asyncio.gather(*batch, return_exceptions=True)
    assert [isinstance(one, StoreUnavailable) for one in found] == [False, True, True, False]
    assert kept(file) == [0, 1, 2]
    assert things.healthy  # the database is sound
    assert "UnicodeEncodeError" in caplog.text
    assert "canary" not in caplog.text


async def test_a_full_disk_fails_what_is_put_and_is_forgotten_when_there_is_space(
    commits: Make, file: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    things = commits()
    await things.put("small")
    await things.run(lambda connection: connection.execute("PRAGMA max_page_count = 4"))
    with pytest.raises(StoreUnavailable) as caught:
        await things.put("x" * 100_000)
    assert caught.value.retry_after
    assert not things.healthy
    assert "database or disk is full" in caplog.text
    monkeypatch.setattr(group_commit, "HEALS_AFTER", 0.0)
    assert things.healthy  # after a while the next one is let try
    monkeypatch.undo()
    await things.put("again")
    assert things.healthy
    assert kept(file) == ["small", "again"]


async def test_a_database_that_another_holds_for_too_long_fails_what_is_put_and_nothing_later(
    commits: Make, file: Path
) -> None:
    things = commits()
    await things.run(lambda connection: connection.execute("PRAGMA busy_timeout = 10"))
    other = sqlite3.connect(file, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(StoreUnavailable):
        await things.put("a")
    other.execute("ROLLBACK")
    other.close()
    await things.put("b")
    assert kept(file) == ["b"]


async def test_a_file_that_cannot_be_opened_is_tried_again_for_the_next(
    commits: Make, file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    missing = file.parent / "later" / "things.db"

    def opened() -> sqlite3.Connection:
        connection = open_durable(missing)
        connection.execute("CREATE TABLE IF NOT EXISTS things (what)")
        return connection

    things = commits(opening=opened)
    with pytest.raises(StoreUnavailable):
        await things.put("a")
    assert "No such file" in caplog.text
    missing.parent.mkdir()
    await things.put("b")
    assert kept(missing) == ["b"]


async def test_the_item_of_a_caller_that_went_away_is_written(commits: Make, file: Path) -> None:
    gate = Gate()
    things = commits(gate)
    waiting = asyncio.create_task(things.put("a"))
    await gate.reached()
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    gate.go.set()
    await things.put("b")
    assert kept(file) == ["a", "b"]


async def test_closing_writes_what_is_left_and_takes_no_more(commits: Make, file: Path) -> None:
    things = commits()
    assert [things.put_nowait(number) for number in range(1000)] == list(range(1, 1001))
    things.close()
    things.close()
    assert kept(file) == list(range(1000))
    with pytest.raises(StoreUnavailable, match="stopping"):
        things.put_nowait("late")
    with pytest.raises(StoreUnavailable, match="stopping"):
        await things.put("late")
    assert not things.healthy


def test_an_event_loop_that_is_gone_harms_nobody(commits: Make, file: Path) -> None:
    gate = Gate()
    things = commits(gate)

    async def give_up() -> None:
        waiting = asyncio.create_task(things.put("a"))
        await gate.reached()
        waiting.cancel()

    asyncio.run(give_up())
    gate.go.set()
    asyncio.run(things.put("b"))
    assert kept(file) == ["a", "b"]


async def test_a_thread_that_dies_leaves_nobody_waiting(commits: Make, caplog: pytest.LogCaptureFixture) -> None:
    class Fatal(BaseException):
        pass

    gate = Gate()

    def die(connection: sqlite3.Connection, items: Sequence[object]) -> None:
        gate(connection, items)
        raise Fatal("canary")

    things = commits(die)
    first = asyncio.create_task(things.put(1))
    await gate.reached()
    others = [asyncio.create_task(things.put(2)), asyncio.create_task(things.run(lambda connection: None))]
    await asyncio.sleep(0)
    gate.go.set()
    found = await asyncio.wait_for(asyncio.gather(first, *others, return_exceptions=True), 10)
    assert [type(one) for one in found] == [StoreUnavailable] * 3
    with pytest.raises(StoreUnavailable):
        await things.put(3)
    assert not things.healthy
    assert "has died of Fatal" in caplog.text
    assert "canary" not in caplog.text


async def test_a_disk_that_stands_still_is_noticed_and_does_not_fill_the_memory(
    commits: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(group_commit, "MOST_WAITING", 2)
    monkeypatch.setattr(group_commit, "STUCK_AFTER", 0.0)
    gate = Gate()
    things = commits(gate)
    first = asyncio.create_task(things.put(0))
    await gate.reached()
    assert not things.healthy
    things.put_nowait(1)
    things.put_nowait(2)
    with pytest.raises(StoreUnavailable, match="Too much waits"):
        things.put_nowait(3)
    gate.go.set()
    await first


async def test_work_is_done_in_its_turn_and_its_failures_are_told(commits: Make, file: Path) -> None:
    things = commits()
    things.put_nowait("a")
    assert await things.run(lambda connection: connection.execute("SELECT what FROM things").fetchall()) == [("a",)]

    def half_done(connection: sqlite3.Connection) -> None:
        connection.execute("BEGIN")
        connection.execute("DELETE FROM things")
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await things.run(half_done)
    with pytest.raises(StoreUnavailable):
        await things.run(lambda connection: connection.execute("SELECT * FROM nowhere"))
    await things.put("b")
    assert kept(file) == ["a", "b"]


async def test_a_disk_that_is_full_for_long_does_not_fill_the_log(
    commits: Make, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(connection: sqlite3.Connection, items: Sequence[object]) -> None:
        raise sqlite3.OperationalError("database or disk is full")

    things = commits(fail)
    with caplog.at_level(logging.ERROR):
        for _ in range(20):
            with pytest.raises(StoreUnavailable):
                await things.put("a")
    assert len(caplog.records) == 1
