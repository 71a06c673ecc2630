from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from tests.faults.site import Site, site_of
from tests.store import postgres_server
from tests.store.postgres_server import PostgresServer
from tests.store.redis_server import RedisServer


@pytest.fixture
def postgres() -> Iterator[PostgresServer]:
    """It runs when a test begins, and again when it has ended, whatever the test did to it."""
    server = postgres_server.shared()
    yield server
    server.bring_back()


@pytest.fixture
def redis() -> Iterator[RedisServer]:
    server = RedisServer()
    yield server
    server.kill()


@pytest.fixture
async def on_sqlite(tmp_path: Path) -> Site:
    return await site_of(tmp_path, f"sqlite:///{tmp_path / 'rerankd.db'}")


@pytest.fixture
async def on_postgres(tmp_path: Path, postgres: PostgresServer, redis: RedisServer) -> AsyncIterator[Site]:
    with postgres.database() as url:
        yield await site_of(tmp_path, url, postgres, redis)
        postgres.bring_back()


@pytest.fixture(params=["sqlite", "postgresql"])
def site(request: pytest.FixtureRequest) -> Site:
    found: Site = request.getfixturevalue("on_sqlite" if request.param == "sqlite" else "on_postgres")
    return found
