from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

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
