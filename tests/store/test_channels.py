from __future__ import annotations

from pathlib import Path

import pytest
from sqlalchemy import text

from rerankd.errors import BadSettings, Conflict, Forbidden, NotFound, StoreUnavailable
from rerankd.store.channels import ChannelStore
from rerankd.store.database import Database
from rerankd.store.records import StoredChannel
from tests.store.postgres_server import PostgresServer

KEY, OTHER = "k" * 40, "o" * 40
CANARY = b'{"api_keys": ["sk-canary-0123"]}'


def store(database: str | Path, key: str | None = KEY) -> ChannelStore:
    """By the database's URL, or in a folder."""
    return ChannelStore(f"sqlite:///{database / 'rerankd.db'}" if isinstance(database, Path) else database, key)


def channel(name: str = "cohere", secrets: bytes | None = CANARY, **fields: object) -> StoredChannel:
    return StoredChannel(name=name, host="https://api.cohere.com", fields=fields, secrets=secrets)


async def changed(url: str, statement: str) -> None:
    async with Database(url).transaction() as connection:
        await connection.execute(text(statement))


async def test_what_is_kept_is_there_after_a_restart(database_url: str) -> None:
    one, two = channel("one", priority=3), channel("two", secrets=None)
    await store(database_url).add(one)
    await store(database_url).add(two)
    assert store(database_url).read() == ([one, two], [])


async def test_a_start_without_anything_kept_makes_no_file(tmp_path: Path) -> None:
    assert store(tmp_path).read() == ([], [])
    assert list(tmp_path.iterdir()) == []


async def test_a_change_replaces_all_of_it_and_a_removal_leaves_nothing(database_url: str) -> None:
    here = store(database_url)
    await here.add(channel(priority=1))
    other = channel(secrets=None, weight=2.0)
    await here.replace(other)
    assert here.read()[0] == [other]
    await here.remove("cohere")
    assert here.read() == ([], [])


async def test_revisions_tell_whether_anything_was_changed(tmp_path: Path, database_url: str) -> None:
    assert await store(tmp_path).revisions() == {}
    assert list(tmp_path.iterdir()) == []
    here, one, two = store(database_url), channel("one"), channel("two", secrets=None)
    await here.add(one)
    await here.add(two)
    assert await here.revisions() == {"one": one.revision, "two": two.revision}
    other = channel("one")
    await here.replace(other)
    await here.remove("two")
    assert await here.revisions() == {"one": other.revision} != {"one": one.revision}


async def test_two_channels_of_one_name_cannot_be(database_url: str) -> None:
    here = store(database_url)
    await here.add(channel())
    with pytest.raises(Conflict, match="'cohere'"):
        await here.add(channel(secrets=None))
    assert here.read()[0][0].secrets == CANARY


async def test_what_is_not_there_is_neither_replaced_nor_removed(database_url: str) -> None:
    with pytest.raises(NotFound, match="'cohere'"):
        await store(database_url).replace(channel())
    with pytest.raises(NotFound, match="'cohere'"):
        await store(database_url).remove("cohere")


async def test_no_secret_is_in_the_file_or_in_a_repr(tmp_path: Path) -> None:
    here = store(tmp_path)
    await here.add(channel())
    await here.replace(channel(priority=2))
    assert b"sk-canary" not in b"".join(file.read_bytes() for file in tmp_path.iterdir())
    assert "sk-canary" not in repr(here.read())


async def test_without_a_key_only_what_has_no_secret_is_kept(tmp_path: Path) -> None:
    here = store(tmp_path, None)
    with pytest.raises(Forbidden, match="RERANKD_SECRET_KEY"):
        await here.add(channel())
    assert list(tmp_path.iterdir()) == []
    await here.add(channel(secrets=None))
    assert [each.name for each in here.read()[0]] == ["cohere"]


@pytest.mark.parametrize("key", [OTHER, None])
async def test_another_key_at_the_start_names_the_channel_and_shows_nothing(database_url: str, key: str | None) -> None:
    await store(database_url).add(channel())
    with pytest.raises(BadSettings, match=r"channels\.cohere") as caught:
        store(database_url, key).read()
    assert "canary" not in caught.value.message


async def test_a_channel_that_is_ignored_is_named_and_not_opened(database_url: str) -> None:
    await store(database_url).add(channel())
    assert store(database_url, OTHER).read(ignored={"cohere", "another"}) == ([], ["cohere"])


@pytest.mark.parametrize("change", ["host = 'https://evil.example'", "name = 'evil'"])
async def test_a_row_that_is_pointed_elsewhere_does_not_open(database_url: str, change: str) -> None:
    await store(database_url).add(channel())
    await changed(database_url, f"UPDATE channels SET {change}")  # noqa: S608
    with pytest.raises(BadSettings, match="sealed for another host"):
        store(database_url).read()


async def test_fields_that_are_no_object_are_refused(database_url: str) -> None:
    await store(database_url).add(channel())
    await changed(database_url, "UPDATE channels SET fields = '[]'")
    with pytest.raises(BadSettings, match="cannot be read"):
        store(database_url).read()


async def test_fields_that_are_no_json_are_refused(tmp_path: Path) -> None:
    """PostgreSQL would not have taken them."""
    await store(tmp_path).add(channel())
    await changed(f"sqlite:///{tmp_path / 'rerankd.db'}", "UPDATE channels SET fields = '{'")
    with pytest.raises(BadSettings, match="cannot be read"):
        store(tmp_path).read()


async def test_while_the_database_is_away_a_change_is_refused_and_a_start_is_told(
    postgres_server: PostgresServer, postgres_url: str
) -> None:
    here = store(postgres_url)
    await here.add(channel())
    postgres_server.kill()
    with pytest.raises(StoreUnavailable):
        await here.remove("cohere")
    with pytest.raises(StoreUnavailable):
        store(postgres_url).read()
    postgres_server.start()
    assert [each.name for each in store(postgres_url).read()[0]] == ["cohere"]
