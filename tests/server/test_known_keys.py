"""Stored keys at the door: what is taken and what is not, how often the database is asked, and what when it is away."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator, Collection
from pathlib import Path
from time import monotonic, time
from typing import Any

import pytest
from sqlalchemy import select
from starlette.requests import Request

from rerankd.accounts import Caller, Limits
from rerankd.api_keys import make_id, make_key
from rerankd.errors import Forbidden, RerankError, StoreUnavailable, Unauthenticated
from rerankd.server import known_keys
from rerankd.server.keys import KeyCheck
from rerankd.server.known_keys import UNKNOWN
from rerankd.settings import Settings
from rerankd.store.database import Database
from rerankd.store.key_records import KeyChange, KeyState, NewKey
from rerankd.store.keys import KeyStore
from rerankd.store.tables import AUDIT, FACTS, KEYS

CLOSED = {"auth": {"mode": "required"}}
JUNK = 20_000


class Watched:
    """The store, counting how often it is asked; it can be `away`."""

    def __init__(self, store: KeyStore) -> None:
        self._store = store
        self.states = self.versions = 0
        self.away = False

    @property
    def every(self) -> float:
        return self._store.every

    def digest(self, key: bytes) -> bytes:
        return self._store.digest(key)

    async def version(self) -> int:
        self.versions += 1
        self._answers()
        return await self._store.version()

    async def state(self, ids: Collection[str] = ()) -> KeyState:
        self.states += 1
        self._answers()
        return await self._store.state(ids)

    def _answers(self) -> None:
        if self.away:
            raise StoreUnavailable("The database is away.")


def asking(key: str | bytes | None, header: bytes = b"authorization", client: str = "127.0.0.1") -> Request:
    value = key if isinstance(key, bytes) else f"Bearer {key}".encode()
    headers = [] if key is None else [(header, value)]
    return Request({"type": "http", "headers": [(b"host", b"x"), *headers], "client": (client, 1), "state": {}})


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'keys.db'}"


@pytest.fixture
def store(url: str) -> KeyStore:
    return KeyStore(Database(url))


@pytest.fixture
async def watched(url: str) -> Watched:
    return Watched(KeyStore(Database(url)))


@pytest.fixture
async def check(watched: Watched) -> AsyncIterator[KeyCheck]:
    """It runs, and asks for keys."""
    check = KeyCheck(Settings.parse(CLOSED), watched)
    await check.start()
    yield check
    await check.stop()


async def made(store: KeyStore, name: str = "me", **more: Any) -> str:
    return (await store.create(NewKey(name=name, **more), actor="test"))[1].reveal()


async def refused(check: KeyCheck, request: Request) -> type[RerankError] | None:
    try:
        await check.caller(request)
    except RerankError as error:
        return type(error)
    return None


async def within(seconds: float, check: KeyCheck, request: Request) -> float:
    """After how many seconds the request is refused."""
    began = monotonic()
    while await refused(check, request) is None:
        assert monotonic() - began < seconds, "it is taken still"
        await asyncio.sleep(0.01)
    return monotonic() - began


async def test_a_stored_key_is_somebody_with_all_that_the_record_says(check: KeyCheck, store: KeyStore) -> None:
    key = await made(store, models=("bge",), limits=Limits(requests=3), strict=True)
    record = await store.get("me")
    caller = await check.caller(asking(key))
    assert caller == Caller(
        id=record.id, name="me", models=("bge",), limits=Limits(requests=3), namespace=record.id, strict=True
    )
    shared = await made(store, "shared", shared_cache=True)
    found = await check.caller(asking(shared))
    assert found is not None
    assert found.namespace == ""


async def test_a_key_that_is_known_is_taken_without_waiting_and_without_the_database(
    check: KeyCheck, store: KeyStore, watched: Watched
) -> None:
    key = await made(store)
    await asyncio.sleep(0.5)
    assert check.cached(asking(key)) is UNKNOWN
    await check.caller(asking(key))
    before = watched.states
    for header in (b"x-api-key", b"api-key", b"x-goog-api-key", b"authorization"):
        found = check.cached(asking(key.encode(), header))
        assert isinstance(found, Caller)
        assert found.name == "me"
    assert watched.states == before


async def test_junk_never_reaches_the_database(check: KeyCheck, watched: Watched) -> None:
    before = watched.states
    real = make_key(make_id())
    for number in range(JUNK):
        junk = (f"{real[:-8]}{number:08d}", f"sk-rr-{number:057d}", f"sk-{number}", f"{number}")[number % 4]
        with pytest.raises(Unauthenticated):
            check.cached(asking(junk))
    assert watched.states == before


async def test_a_flood_of_unknown_keys_is_not_one_of_readings(
    check: KeyCheck, store: KeyStore, watched: Watched
) -> None:
    await made(store)
    await asyncio.sleep(0.5)
    before = watched.states
    flood = [asking(make_key(make_id())) for _ in range(300)]
    assert set(await asyncio.gather(*(refused(check, request) for request in flood))) == {Unauthenticated}
    assert watched.states - before <= 3
    again = watched.states
    assert set(await asyncio.gather(*(refused(check, request) for request in flood))) == {Unauthenticated}
    assert watched.states == again


async def test_revocation_reaches_every_process_within_a_second(url: str, store: KeyStore) -> None:
    key = await made(store)
    checks = [KeyCheck(Settings.parse(CLOSED), KeyStore(Database(url))) for _ in range(2)]
    for check in checks:
        await check.start()
        await check.caller(asking(key))
    await store.revoke("me", actor="test")
    for check in checks:
        assert await within(1.0, check, asking(key)) < 1.0
        await check.stop()


async def test_without_polling_a_request_looks_at_the_version_itself(watched: Watched, store: KeyStore) -> None:
    check = KeyCheck(Settings.parse(CLOSED), watched)
    key = await made(store)
    await check.caller(asking(key))
    await store.revoke("me", actor="test")
    await asyncio.sleep(watched.every)
    assert await refused(check, asking(key)) is Unauthenticated


async def test_in_the_window_of_a_rotation_both_keys_are_good_and_then_the_new_one(
    check: KeyCheck, store: KeyStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = await made(store)
    await check.caller(asking(first))
    _, second = await store.rotate("me", 60, actor="test")
    for _ in range(60):  # while the change arrives, and after
        assert await refused(check, asking(first)) is None
        assert await refused(check, asking(second.reveal())) is None
        await asyncio.sleep(0.01)
    now = time()
    monkeypatch.setattr(known_keys, "time", lambda: now + 61)
    assert await refused(check, asking(first)) is Unauthenticated
    assert await refused(check, asking(second.reveal())) is None


async def test_what_is_disabled_expired_or_for_something_else_does_not_rank(
    check: KeyCheck, store: KeyStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    disabled, admin = await made(store, "disabled"), await made(store, "boss", scope="admin")
    expires = await made(store, "expires", expires=int(time()) + 3600)
    await store.update("disabled", KeyChange(enabled=False), actor="test")
    assert await refused(check, asking(disabled)) is Unauthenticated
    assert await refused(check, asking(admin)) is Forbidden
    assert await refused(check, asking(expires)) is None
    monkeypatch.setattr(known_keys, "time", lambda: 1e11)
    assert await refused(check, asking(expires)) is Unauthenticated


@pytest.mark.parametrize(
    ("client", "good"),
    [
        ("10.9.8.7", True),
        ("::ffff:10.9.8.7", True),
        ("2001:db8::5", True),
        ("11.0.0.1", False),
        ("::ffff:11.0.0.1", False),
        ("2001:db9::5", False),
        ("testclient", False),
        ("", False),
    ],
)
async def test_a_key_is_good_within_its_networks_alone(
    check: KeyCheck, store: KeyStore, client: str, good: bool
) -> None:
    key = await made(store, networks=("10.0.0.0/8", "2001:db8::/32"))
    for _ in range(2):  # looked up, and known
        assert await refused(check, asking(key, client=client)) is (None if good else Forbidden)


async def test_nothing_that_is_stored_is_taken_as_a_key(check: KeyCheck, store: KeyStore, url: str) -> None:
    """Who has stolen the database, and hands in its values as they are, or in any of the usual ways to write bytes."""
    await made(store)
    await store.rotate("me", 3600, actor="test")
    await store.ensure_admin()
    values: set[bytes] = set()
    async with Database(url).transaction() as connection:
        for table in (KEYS, FACTS, AUDIT):
            for row in await connection.execute(select(table)):
                for value in row:
                    values |= _written(value)
    assert len(values) > 30
    for value in values:
        for header in (b"authorization", b"x-api-key"):
            for sent in (value, b"Bearer " + value, b"sk-rr-" + value):
                assert await refused(check, asking(sent, header)) is Unauthenticated


def _written(value: object) -> set[bytes]:
    raw = value if isinstance(value, bytes) else str(value).encode()
    forms = {raw, raw.hex().encode(), base64.b64encode(raw), base64.urlsafe_b64encode(raw).rstrip(b"=")}
    return {form for form in forms if form.strip()}


async def test_while_the_database_is_away_known_keys_go_on_for_five_minutes_and_others_are_not_called_wrong(
    check: KeyCheck, store: KeyStore, watched: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    known, unknown = await made(store, "known"), await made(store, "unknown")
    await check.caller(asking(known))
    await asyncio.sleep(0.5)
    await check.caller(asking(known))
    watched.away = True
    await asyncio.sleep(0.5)
    assert check.away
    assert await refused(check, asking(known)) is None
    assert await refused(check, asking(unknown)) is StoreUnavailable
    assert await refused(check, asking("junk")) is Unauthenticated
    now = monotonic()
    monkeypatch.setattr(known_keys, "monotonic", lambda: now + 301)
    assert await refused(check, asking(known)) is StoreUnavailable
    monkeypatch.undo()
    watched.away = False
    await asyncio.sleep(0.5)
    assert not check.away
    assert await refused(check, asking(unknown)) is None


async def test_where_the_database_was_away_from_the_start_nobody_is_let_in_for_that(
    watched: Watched, store: KeyStore
) -> None:
    watched.away = True
    check = KeyCheck(Settings.parse({"api_key": "a-static-key"}), watched)
    await check.start()
    open_one = KeyCheck(Settings(), watched)
    await open_one.start()
    assert open_one.needed
    assert await refused(open_one, asking(None)) is Unauthenticated
    assert await refused(check, asking("a-static-key")) is None
    assert await refused(check, asking(make_key(make_id()))) is StoreUnavailable
    watched.away = False
    key = await made(store)
    await asyncio.sleep(0.5)
    assert await refused(check, asking(key)) is None
    await check.stop()
    await open_one.stop()


async def test_a_key_that_is_made_closes_an_open_server_for_good(watched: Watched, store: KeyStore) -> None:
    check = KeyCheck(Settings(), watched)
    await check.start()
    await store.ensure_admin()
    assert await check.caller(asking("whatever")) is None
    key = await made(store)
    assert await within(1.0, check, asking(None)) < 1.0
    assert await refused(check, asking(key)) is None
    await store.revoke("me", actor="test")
    assert await within(1.0, check, asking(key)) < 1.0
    assert await refused(check, asking(None)) is Unauthenticated
    assert check.needed
    await check.stop()


async def test_off_is_off_whatever_is_stored(watched: Watched, store: KeyStore) -> None:
    await made(store)
    check = KeyCheck(Settings.parse({"auth": {"mode": "off"}}), watched)
    assert await check.caller(asking("whatever")) is None


async def test_what_is_remembered_is_bounded(check: KeyCheck, store: KeyStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(known_keys, "MOST_KNOWN", 3)
    monkeypatch.setattr(known_keys, "MOST_REFUSED", 3)
    keys = [await made(store, f"key {number}") for number in range(6)]
    await asyncio.sleep(0.5)
    for key in (*keys, *(make_key(make_id()) for _ in range(6))):
        await refused(check, asking(key))
    known = check._stored
    assert known is not None
    assert (len(known._known), len(known._refused)) == (3, 3)
    assert all([await refused(check, asking(key)) is None for key in keys])
