"""The log of changes: a change and its row are there together or not at all."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text, update

from rerankd.errors import Conflict, EngineError, NotFound
from rerankd.store import audit
from rerankd.store.audit import AuditLog, write_in
from rerankd.store.channels import ChannelStore
from rerankd.store.database import Database
from rerankd.store.records import StoredChannel
from rerankd.store.tables import AUDIT

KEY = "a random text, or so it is hoped: 0123456789"
CANARY = b"sk-canary-0123456789"


async def test_rows_come_back_newest_first_page_after_page(database_url: str) -> None:
    log = AuditLog(Database(database_url))
    for number in range(5):
        await log.write("me (a)", "key.update", f"key {number}", {"limit": None}, {"limit": number})
    first = await log.page(limit=2)
    assert [change.target for change in first] == ["key 4", "key 3"]
    assert (first[0].actor, first[0].action, first[0].before, first[0].after) == (
        "me (a)",
        "key.update",
        {"limit": None},
        {"limit": 4},
    )
    second = await log.page(before=first[-1].number, limit=3)
    assert [change.target for change in second] == ["key 2", "key 1", "key 0"]
    assert await log.page(before=second[-1].number) == []


async def test_what_was_not_there_before_or_is_not_after_is_null(database_url: str) -> None:
    log = AuditLog(Database(database_url))
    await log.write("me", "key.create", "a", None, {})
    (change,) = await log.page()
    assert (change.before, change.after) == (None, {})


async def test_texts_that_are_too_long_are_cut_and_no_reason_to_refuse(database_url: str) -> None:
    log = AuditLog(Database(database_url))
    await log.write("a" * 1000, "b" * 1000, "c" * 1000)
    (change,) = await log.page()
    assert (change.actor, change.action, change.target) == ("a" * 128, "b" * 64, "c" * 256)


async def test_a_row_goes_with_the_transaction_that_it_was_written_in(database_url: str) -> None:
    database = Database(database_url)

    async def fail() -> None:
        async with database.transaction() as connection:
            await write_in(connection, "me", "key.create", "a")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await fail()
    assert await AuditLog(database).page() == []


async def test_old_rows_are_all_forgotten_a_few_at_a_time(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    database = Database(database_url)
    log = AuditLog(database)
    for name in "abcde":
        await log.write("me", "key.create", name)
    async with database.transaction() as connection:
        await connection.execute(update(AUDIT).where(AUDIT.c.target < "d").values(at=AUDIT.c.at - 8 * audit.DAY))
    monkeypatch.setattr(audit, "AT_ONCE", 2)
    assert [await log.forget(7) for _ in range(2)] == [3, 0]
    assert [change.target for change in await log.page()] == ["e", "d"]


def channel(**more: Any) -> StoredChannel:
    values: dict[str, Any] = {"name": "new", "host": "https://a", "fields": {"priority": 1}, "secrets": CANARY}
    return StoredChannel(**{**values, **more})


async def test_each_change_of_a_channel_is_written_down_without_its_secrets(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'rerankd.db'}"
    store = ChannelStore(url, KEY)
    await store.add(channel(revision="1"), "me (a)")
    await store.replace(channel(fields={"priority": 2}, revision="2"), "you (b)")
    await store.remove("new", "me (a)")
    changes = await AuditLog(Database(url)).page()
    one = {"fields": {"priority": 1}, "secrets": True, "revision": "1"}
    two = {"fields": {"priority": 2}, "secrets": True, "revision": "2"}
    assert [(change.actor, change.action, change.target, change.before, change.after) for change in changes] == [
        ("me (a)", "channel.remove", "new", two, None),
        ("you (b)", "channel.replace", "new", one, two),
        ("me (a)", "channel.create", "new", None, one),
    ]
    assert CANARY.decode() not in repr(changes)


async def test_a_change_that_fails_leaves_no_row(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'rerankd.db'}"
    store = ChannelStore(url, KEY)
    await store.add(channel(), "me")
    with pytest.raises(Conflict):
        await store.add(channel(), "me")
    with pytest.raises(NotFound):
        await store.replace(channel(name="other"), "me")
    with pytest.raises(NotFound):
        await store.remove("other", "me")
    assert [change.action for change in await AuditLog(Database(url)).page()] == ["channel.create"]


async def test_a_change_whose_row_cannot_be_written_does_not_happen(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'rerankd.db'}"
    store = ChannelStore(url, KEY)
    await store.add(channel(), "me")
    async with Database(url).transaction() as connection:
        await connection.execute(text("DROP TABLE audit"))
    for change in (store.add(channel(name="other"), "me"), store.remove("new", "me")):
        with pytest.raises(EngineError):
            await change
    assert [one.name for one in await _all(store)] == ["new"]


async def _all(store: ChannelStore) -> list[StoredChannel]:
    return [store._opened(row) for row in await store._rows()]
