"""Keys in a real database of each kind: made, changed, rotated and revoked, and what is kept of them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from time import time

import msgspec
import pytest
from sqlalchemy import select, update

from rerankd.accounts import Limits, Quotas
from rerankd.api_keys import id_of
from rerankd.errors import BadRequest, BadSettings, Conflict, NotFound
from rerankd.store.database import Database
from rerankd.store.key_records import KeyChange, KeyRecord, NewKey
from rerankd.store.keys import KeyStore
from rerankd.store.tables import AUDIT, FACTS, KEYS

PEPPER, OTHER = "p" * 40, "o" * 40

MakeStore = Callable[..., KeyStore]


@pytest.fixture
def make_store(database_url: str) -> MakeStore:
    """Of the same database each time, as another process would have it."""
    return lambda pepper=PEPPER: KeyStore(Database(database_url), pepper)


@pytest.fixture
def store(make_store: MakeStore) -> KeyStore:
    return make_store()


def new(name: str = "me", **more: object) -> NewKey:
    return msgspec.convert({"name": name, **more}, NewKey)


async def good(store: KeyStore, key: str) -> bool:
    """Whether the text is one of the two that the database would take now."""
    key_id = id_of(key.encode()) or ""
    held = (await store.state([key_id])).held.get(key_id)
    if held is None or not held.record.usable(time()):
        return False
    digest = store.digest(key.encode())
    return digest == held.digest or (digest == held.former and (held.record.former_until or 0) > time())


async def test_a_key_is_kept_with_all_that_it_may_and_never_itself(store: KeyStore, make_store: MakeStore) -> None:
    asked = new(
        models=["bge"],
        networks=["10.1.2.3/8", "::1"],
        limits={"requests": 2},
        quotas={"day": 5},
        shared_cache=True,
        strict=True,
        expires=int(time()) + 60,
    )
    record, key = await store.create(asked, actor="test")
    assert str(key) == "***"
    assert id_of(key.reveal().encode()) == record.id
    assert (record.networks, record.limits, record.quotas) == (
        ("10.0.0.0/8", "::1/128"),
        Limits(requests=2),
        Quotas(day=5),
    )
    other = make_store()
    assert await other.list() == [record]
    assert await other.get("me") == await other.get(record.id) == record
    assert await good(other, key.reveal())
    another = (await store.create(new("you"), actor="test"))[1].reveal()
    assert not await good(other, another[:-1] + ("x" if another[-1] != "x" else "y"))


async def test_a_hash_is_kept_and_stands_in_no_repr_and_no_log_of_changes(store: KeyStore, database_url: str) -> None:
    record, key = await store.create(new(), actor="somebody")
    held = (await store.state([record.id])).held[record.id]
    assert held.digest.hex() not in repr(held)
    assert str(held.digest) not in repr(held)
    async with Database(database_url).transaction() as connection:
        (change,) = (await connection.execute(select(AUDIT))).mappings().all()
        everything = repr([(await connection.execute(select(table))).all() for table in (KEYS, FACTS, AUDIT)])
    assert (change["actor"], change["action"], change["target"]) == ("somebody", "key.create", "me")
    assert change["after"]["id"] == record.id
    assert "hash" not in str(change["after"])
    assert key.reveal() not in everything
    assert key.reveal()[14:] not in everything


async def test_names_are_unique_but_a_revoked_key_gives_its_up(store: KeyStore) -> None:
    first, _ = await store.create(new(), actor="test")
    with pytest.raises(Conflict, match="'me'"):
        await store.create(new(), actor="test")
    await store.revoke("me", actor="test")
    second, _ = await store.create(new(), actor="test")
    assert (await store.get("me")).id == second.id
    assert (await store.get(first.id)).name == f"me ({first.id})"


async def test_rotation_leaves_two_keys_for_a_while_and_never_three(store: KeyStore) -> None:
    record, first = await store.create(new(), actor="test")
    rotated, second = await store.rotate("me", 60, actor="test")
    assert rotated.id == record.id
    assert 58 <= (rotated.former_until or 0) - time() <= 60
    assert await good(store, first.reveal())
    assert await good(store, second.reveal())
    _, third = await store.rotate("me", 60, actor="test")
    assert [await good(store, key.reveal()) for key in (first, second, third)] == [False, True, True]
    _, fourth = await store.rotate("me", 0, actor="test")
    assert [await good(store, key.reveal()) for key in (third, fourth)] == [False, True]


async def test_revocation_is_of_both_keys_and_for_good(store: KeyStore, database_url: str) -> None:
    _, first = await store.create(new(), actor="test")
    record, second = await store.rotate("me", 60, actor="test")
    revoked = await store.revoke("me", actor="test")
    assert revoked.revoked is not None
    assert await store.revoke(record.id, actor="test") == revoked
    assert [await good(store, key.reveal()) for key in (first, second)] == [False, False]
    async with Database(database_url).transaction() as connection:
        assert (await connection.execute(select(KEYS.c.hash, KEYS.c.former_hash))).one() == (b"", None)
    with pytest.raises(Conflict, match="revoked"):
        await store.rotate("me", actor="test")
    with pytest.raises(Conflict, match="revoked"):
        await store.update("me", KeyChange(enabled=True), actor="test")


async def test_a_change_changes_what_is_given_alone(store: KeyStore) -> None:
    before, _ = await store.create(new(models=["a"], limits={"tokens": 5}), actor="test")
    after = await store.update("me", KeyChange(limits=Limits(requests=1), enabled=False), actor="test")
    assert after == msgspec.structs.replace(before, limits=Limits(requests=1), enabled=False, updated=after.updated)
    assert await store.get("me") == after
    assert (await store.update("me", KeyChange(name="you", expires=None), actor="test")).name == "you"


async def test_changes_of_one_key_at_the_same_moment_lose_nothing_of_each_other(make_store: MakeStore) -> None:
    await make_store().create(NewKey(name="me"), actor="test")

    def with_limit(**given: int) -> Callable[[KeyRecord], KeyChange]:
        return lambda before: KeyChange(limits=msgspec.structs.replace(before.limits, **given))

    changes = (with_limit(requests=1), with_limit(tokens=2), with_limit(documents=3), with_limit(concurrency=4))
    await asyncio.gather(*(make_store().update("me", change, actor="test") for change in changes))
    assert (await make_store().get("me")).limits == Limits(requests=1, tokens=2, documents=3, concurrency=4)


async def test_every_change_has_another_version_and_no_reading_has(store: KeyStore, make_store: MakeStore) -> None:
    other = make_store()
    seen = [await other.version()]
    for work in (
        lambda: store.create(new(), actor="test"),
        lambda: store.update("me", KeyChange(strict=True), actor="test"),
        lambda: store.rotate("me", actor="test"),
        lambda: store.revoke("me", actor="test"),
    ):
        await work()
        assert (await other.state()).version == await other.version()
        seen.append(await other.version())
    await other.list()
    assert len(set(seen)) == 5
    assert await other.version() == seen[-1]


async def test_it_is_known_whether_a_key_that_ranks_was_made_and_whether_one_can_be_used(store: KeyStore) -> None:
    async def now() -> tuple[bool, bool]:
        state = await store.state()
        return state.made, state.usable

    assert await now() == (False, False)
    await store.ensure_admin()
    assert await now() == (False, False)
    await store.create(new(), actor="test")
    assert await now() == (True, True)
    await store.update("me", KeyChange(enabled=False), actor="test")
    assert await now() == (True, False)
    await store.update("me", KeyChange(enabled=True, expires=int(time()) - 1), actor="test")
    assert await now() == (True, False)


async def test_of_all_who_start_at_once_one_makes_the_admins_key(make_store: MakeStore) -> None:
    await make_store().prepare()
    made = [key for key in await asyncio.gather(*(make_store().ensure_admin() for _ in range(4))) if key is not None]
    (record,) = await make_store().list()
    assert len(made) == 1
    assert (record.name, record.scope) == ("admin", "admin")
    assert await good(await _prepared(make_store()), made[0].reveal())
    assert await make_store().ensure_admin() is None


async def test_the_name_of_the_admins_key_is_no_others(store: KeyStore) -> None:
    with pytest.raises(BadRequest, match="admin"):
        await store.create(new("admin"), actor="test")


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("name", ""),
        ("name", " "),
        ("name", "a\nb"),
        ("name", "x" * 101),
        ("models", [""]),
        ("models", ["m"] * 1001),
        ("networks", ["10.0.0.0/33"]),
        ("networks", ["here"]),
        ("limits", {"requests": 0}),
        ("limits", {"tokens": -1}),
        ("quotas", {"total": 10**16}),
        ("expires", 1),
        ("expires", 10**18),
    ],
)
async def test_what_cannot_be_is_refused_by_name_and_changes_nothing(
    store: KeyStore, field: str, value: object
) -> None:
    with pytest.raises(BadRequest) as caught:
        await store.create(new(**{"name": "me", field: value}), actor="test")  # type: ignore[arg-type]
    assert (caught.value.param or "").startswith(field)
    assert (await store.list(), await store.version()) == ([], 0)


async def test_what_is_not_there_is_not_found(store: KeyStore) -> None:
    for work in (store.get("me"), store.revoke("me", actor="t"), store.rotate("me", actor="t")):
        with pytest.raises(NotFound, match="'me'"):
            await work


async def test_another_pepper_is_refused_with_what_to_do(store: KeyStore, make_store: MakeStore) -> None:
    await store.create(new(), actor="test")
    other = make_store(OTHER)
    for work in (other.prepare(), other.state(), other.ensure_admin(), other.rotate("me", actor="test")):
        with pytest.raises(BadSettings, match="RERANKD_PEPPER") as caught:
            await work
        assert OTHER not in caught.value.message
    assert [record.name for record in await other.list()] == ["me"]
    await other.revoke("me", actor="test")
    _, key = await other.create(new("you"), actor="test")
    assert await good(other, key.reveal())


async def test_a_lost_pepper_is_not_made_anew_in_silence(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'x.db'}"
    await KeyStore(Database(url)).create(new(), actor="test")
    (tmp_path / "x.db.pepper").unlink()
    with pytest.raises(BadSettings, match=r"no pepper in .*x\.db\.pepper"):
        await KeyStore(Database(url)).prepare()
    assert not (tmp_path / "x.db.pepper").exists()


async def test_looking_makes_no_database(tmp_path: Path) -> None:
    store = KeyStore(Database(f"sqlite:///{tmp_path / 'x.db'}"))
    assert (await store.list(), await store.version(), (await store.state(["abcd1234"])).held) == ([], 0, {})
    with pytest.raises(NotFound):
        await store.get("me")
    assert list(tmp_path.iterdir()) == []


async def test_a_row_that_cannot_be_read_keeps_nobody_else_out(store: KeyStore, database_url: str) -> None:
    broken, _ = await store.create(new("broken"), actor="test")
    fine, _ = await store.create(new("fine"), actor="test")
    async with Database(database_url).transaction() as connection:
        await connection.execute(update(KEYS).where(KEYS.c.id == broken.id).values(fields={"models": 7}))
    assert (await store.state([broken.id, fine.id])).held.keys() == {fine.id}
    with pytest.raises(BadSettings, match="'broken'"):
        await store.list()


async def _prepared(store: KeyStore) -> KeyStore:
    await store.prepare()
    return store
