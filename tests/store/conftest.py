from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.store import postgres_server as postgres
from tests.store.postgres_server import PostgresServer
from tests.store.redis_server import RedisServer

if TYPE_CHECKING:
    import redis


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
