from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from rerankd.store import redis_connection, redis_scores
from tests.store import postgres_server as postgres
from tests.store.postgres_server import PostgresServer
from tests.store.redis_server import RedisServer

if TYPE_CHECKING:
    import redis

BUSY = 4
"""How much slower than it may be on a machine of its own a test's machine is allowed to be."""
FIRST, AFTERWARDS = 0.1, 0.005


@pytest.fixture(scope="session")
def redis_server() -> Iterator[RedisServer]:
    server = RedisServer()
    yield server
    server.kill()


@pytest.fixture
def redis_client(redis_server: RedisServer) -> Iterator[redis.Redis]:
    """To look into the server, which is empty before each test."""
    from redis import Redis  # the other tests of this folder run without it

    with Redis(port=redis_server.port) as client:
        client.flushall()
        yield client


@pytest.fixture
def bounds() -> tuple[float, float]:
    """Seconds that one request may wait at first, and afterwards, while Redis does not answer."""
    return FIRST * BUSY, AFTERWARDS * BUSY


@pytest.fixture
def patient(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """A busy machine is no reason to go on without Redis, but where a test is about the `bounds`."""
    if "bounds" not in request.fixturenames:
        for name in ("TIMEOUT", "LIMIT"):
            monkeypatch.setattr(redis_connection, name, 10.0)
        monkeypatch.setattr(redis_scores, "WRITE_LIMIT", 10.0)


@pytest.fixture
def postgres_server() -> Iterator[PostgresServer]:
    """It runs when a test begins, and again when it has ended, whatever the test did to it."""
    server = postgres.shared()
    yield server
    server.bring_back()


@pytest.fixture
def postgres_url(postgres_server: PostgresServer) -> Iterator[str]:
    """Of a database that is new and empty."""
    with postgres_server.database() as url:
        yield url
        postgres_server.bring_back()


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Of a new and empty database of each kind."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'rerankd.db'}"
    url: str = request.getfixturevalue("postgres_url")
    return url
