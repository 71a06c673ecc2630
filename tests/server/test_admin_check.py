"""Who gets in to /admin."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from time import sleep
from typing import Any

import pytest
from starlette.testclient import TestClient

from rerankd.app import Application
from rerankd.books import Books
from rerankd.server.http import create_app
from rerankd.store.database import Database, blocking
from rerankd.store.key_records import NewKey
from rerankd.store.keys import KeyStore
from tests.server.conftest import settings

CHANNELS = "/admin/api/channels"
HERE = {"host": "localhost:8000"}


@pytest.fixture
def store(tmp_path: Path) -> KeyStore:
    return KeyStore(Database(f"sqlite:///{tmp_path / 'keys.db'}"))


@pytest.fixture
def client(store: KeyStore) -> Iterator[TestClient]:
    """Of a server on loopback without any key of the settings."""
    with Application(settings(), books=Books(keys=store)) as application:
        yield TestClient(create_app(application))


def asked(client: TestClient, key: str | None = None, **headers: str) -> int:
    brought = {} if key is None else {"authorization": f"Bearer {key}"}
    return client.get(CHANNELS, headers={**HERE, **brought, **headers}).status_code


def rank_key(store: KeyStore) -> str:
    return blocking(lambda: store.create(NewKey(name="me"), actor="test"))[1].reveal()


def test_it_is_open_to_this_machine_until_a_key_that_ranks_is_made(client: TestClient, store: KeyStore) -> None:
    admin = blocking(store.ensure_admin)
    assert admin is not None
    assert asked(client) == 200
    assert asked(client, host="evil.example") == 403
    rank = rank_key(store)
    sleep(0.5)
    assert asked(client) == 401
    assert asked(client, "junk") == 401
    assert asked(client, rank) == 403
    assert asked(client, admin.reveal()) == 200
    assert asked(client, admin.reveal(), host="rerankd.example.org") == 200


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "localhost.evil.example",
        "evil.example/@localhost",
        "localhost@evil.example",
        "evil.example#localhost",
        "localhost/?",
        "localhost#",
        "localhost\\.evil.example",
        "10.0.0.1",
        "[::1",
        "",
    ],
)
def test_while_it_is_open_no_other_name_of_it_is_taken(client: TestClient, host: str) -> None:
    assert asked(client, host=host) == 403


def test_two_hosts_are_none(client: TestClient) -> None:
    assert client.get(CHANNELS, headers=[("host", "localhost"), ("host", "evil.example")]).status_code == 403


def test_an_admins_key_of_the_settings_goes_beside_the_stored_one(store: KeyStore) -> None:
    admin, rank = blocking(store.ensure_admin), rank_key(store)
    assert admin is not None
    table: dict[str, Any] = {"admin_key": "the-admins-key", "api_key": "a-static-key"}
    with Application(settings(**table), books=Books(keys=store)) as application:
        client = TestClient(create_app(application))
        assert [asked(client, key) for key in ("the-admins-key", admin.reveal())] == [200, 200]
        assert [asked(client, key) for key in ("a-static-key", rank)] == [403, 403]
        models = [
            client.get("/v1/models", headers={"x-api-key": key}).status_code
            for key in ("a-static-key", rank, "the-admins-key", admin.reveal())
        ]
        assert models == [200, 200, 403, 403]


def test_a_rotated_admins_key_is_the_admins(client: TestClient, store: KeyStore) -> None:
    first = blocking(store.ensure_admin)
    rank_key(store)
    _, second = blocking(lambda: store.rotate("admin", 0, actor="test"))
    assert first is not None
    assert [asked(client, first.reveal()), asked(client, second.reveal())] == [401, 200]
