from __future__ import annotations

from pathlib import Path

import pytest
from sqlalchemy import text

from rerankd.errors import BadSettings, Conflict, Forbidden, NotFound
from rerankd.store.channels import ChannelStore
from rerankd.store.database import Database
from rerankd.store.records import StoredChannel

KEY, OTHER = "k" * 40, "o" * 40
CANARY = b'{"api_keys": ["sk-canary-0123"]}'


def store(folder: Path, key: str | None = KEY) -> ChannelStore:
    return ChannelStore(f"sqlite:///{folder / 'rerankd.db'}", key)


def channel(name: str = "cohere", secrets: bytes | None = CANARY, **fields: object) -> StoredChannel:
    return StoredChannel(name=name, host="https://api.cohere.com", fields=fields, secrets=secrets)


async def changed(folder: Path, statement: str) -> None:
    async with Database(f"sqlite:///{folder / 'rerankd.db'}").transaction() as connection:
        await connection.execute(text(statement))


async def test_what_is_kept_is_there_after_a_restart(tmp_path: Path) -> None:
    one, two = channel("one", priority=3), channel("two", secrets=None)
    await store(tmp_path).add(one)
    await store(tmp_path).add(two)
    assert store(tmp_path).read() == ([one, two], [])


async def test_a_start_without_anything_kept_makes_no_file(tmp_path: Path) -> None:
    assert store(tmp_path).read() == ([], [])
    assert list(tmp_path.iterdir()) == []


async def test_a_change_replaces_all_of_it_and_a_removal_leaves_nothing(tmp_path: Path) -> None:
    here = store(tmp_path)
    await here.add(channel(priority=1))
    other = channel(secrets=None, weight=2.0)
    await here.replace(other)
    assert here.read()[0] == [other]
    await here.remove("cohere")
    assert here.read() == ([], [])


async def test_two_channels_of_one_name_cannot_be(tmp_path: Path) -> None:
    here = store(tmp_path)
    await here.add(channel())
    with pytest.raises(Conflict, match="'cohere'"):
        await here.add(channel(secrets=None))
    assert here.read()[0][0].secrets == CANARY


async def test_what_is_not_there_is_neither_replaced_nor_removed(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="'cohere'"):
        await store(tmp_path).replace(channel())
    with pytest.raises(NotFound, match="'cohere'"):
        await store(tmp_path).remove("cohere")


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
async def test_another_key_at_the_start_names_the_channel_and_shows_nothing(tmp_path: Path, key: str | None) -> None:
    await store(tmp_path).add(channel())
    with pytest.raises(BadSettings, match=r"channels\.cohere") as caught:
        store(tmp_path, key).read()
    assert "canary" not in caught.value.message


async def test_a_channel_that_is_ignored_is_named_and_not_opened(tmp_path: Path) -> None:
    await store(tmp_path).add(channel())
    assert store(tmp_path, OTHER).read(ignored={"cohere", "another"}) == ([], ["cohere"])


@pytest.mark.parametrize("change", ["host = 'https://evil.example'", "name = 'evil'"])
async def test_a_row_that_is_pointed_elsewhere_does_not_open(tmp_path: Path, change: str) -> None:
    await store(tmp_path).add(channel())
    await changed(tmp_path, f"UPDATE channels SET {change}")  # noqa: S608
    with pytest.raises(BadSettings, match="sealed for another host"):
        store(tmp_path).read()


@pytest.mark.parametrize("fields", ["'[]'", "'{'"])
async def test_fields_that_are_no_object_are_refused(tmp_path: Path, fields: str) -> None:
    await store(tmp_path).add(channel())
    await changed(tmp_path, f"UPDATE channels SET fields = {fields}")  # noqa: S608
    with pytest.raises(BadSettings, match="cannot be read"):
        store(tmp_path).read()
