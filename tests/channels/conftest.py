from __future__ import annotations

from collections.abc import AsyncIterator

import pytest_asyncio

from rerankd.channels.client import Client


@pytest_asyncio.fixture
async def client() -> AsyncIterator[Client]:
    made = Client()
    yield made
    await made.close()
