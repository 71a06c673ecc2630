from __future__ import annotations

import asyncio
import importlib.util
import logging
import struct
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from hashlib import sha256
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any

import pytest

from rerankd.app import Application
from rerankd.dialects.directory import CALLED
from rerankd.errors import BadSettings
from rerankd.policies.score_store import Layered, MemoryScores
from rerankd.settings import Settings
from rerankd.store import redis_connection
from rerankd.store.redis_connection import FAILURES, PAUSE
from rerankd.store.redis_scores import MAX_KEYS, MAX_VALUE, PREFIX, RedisScores
from rerankd.types import Call, Document, RerankRequest, RerankResponse
from tests.engine import tiny
from tests.faults.hostile import Upstream, texts_for
from tests.store.redis_server import RedisServer

if TYPE_CHECKING:
    import redis

NOBODY = "redis://127.0.0.1:1/0"

pytestmark = pytest.mark.usefixtures("patient")


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def key(name: object) -> bytes:
    return sha256(str(name).encode()).digest()


@asynccontextmanager
async def scores(server: RedisServer | str, **options: Any) -> AsyncIterator[RedisScores]:
    store = RedisScores(server if isinstance(server, str) else server.url, options.pop("ttl", 60.0), **options)
    try:
        yield store
    finally:
        await store.settled()
        store.close()
        await asyncio.sleep(0)


async def put(store: RedisScores, *names: object, owner: str = "", ttl: float | None = None) -> None:
    await store.put(owner, {key(name): str(name).encode() for name in names}, ttl)
    await store.settled()


async def found(store: RedisScores, *names: object, owner: str = "") -> list[bytes | None]:
    return await store.get(owner, [key(name) for name in names])


def names(client: redis.Redis) -> list[bytes]:
    every: Any = client.keys("*")
    return list(every)


async def seconds_of(work: Callable[[], Any]) -> float:
    started = perf_counter()
    await work()
    return perf_counter() - started


async def test_what_one_put_another_finds_in_the_order_asked_for(
    redis_server: RedisServer, redis_client: redis.Redis
) -> None:
    async with scores(redis_server) as one, scores(redis_server) as two:
        await put(one, "a", "b")
        assert await found(two, "b", "c", "a") == [b"b", None, b"a"]


async def test_another_owner_sees_nothing(redis_server: RedisServer, redis_client: redis.Redis) -> None:
    async with scores(redis_server) as store:
        await put(store, "a", owner="one")
        assert await found(store, "a", owner="two") == [None]
        assert await found(store, "a") == [None]
        assert await found(store, "a", owner="one") == [b"a"]
    assert not [name for name in names(redis_client) if b"one" in name or not name.startswith(PREFIX)]


async def test_every_key_has_its_time(redis_server: RedisServer, redis_client: redis.Redis) -> None:
    async with scores(redis_server, ttl=60.0) as store:
        await put(store, "without a time")
        assert [50_000 < redis_client.pttl(name) <= 60_000 for name in names(redis_client)] == [True]
        redis_client.flushall()
        await put(store, "with one", ttl=5.0)
        assert [4_000 < redis_client.pttl(name) <= 5_000 for name in names(redis_client)] == [True]


@pytest.mark.parametrize("spoil", [b"", b"garbage", None, bytes(10), "swapped", "cut", "long"])
async def test_garbage_is_ignored(
    redis_server: RedisServer, redis_client: redis.Redis, spoil: bytes | str | None
) -> None:
    async with scores(redis_server) as store:
        await put(store, "a", "b")
        one, two = names(redis_client)
        whole: dict[bytes, Any] = {name: redis_client.get(name) for name in (one, two)}
        if spoil is None:
            redis_client.delete(one, two)
            redis_client.lpush(one, "a list")
        else:
            texts = {"swapped": whole[two], "cut": whole[one][:-1], "long": whole[one] + bytes(MAX_VALUE)}
            redis_client.set(one, texts[spoil] if isinstance(spoil, str) else spoil)
            redis_client.delete(two)
        assert await found(store, "a", "b") == [None, None]


async def test_what_is_too_large_or_too_much_is_not_kept(redis_server: RedisServer, redis_client: redis.Redis) -> None:
    async with scores(redis_server) as store:
        await store.put("", {key("large"): bytes(MAX_VALUE), key("small"): b"1"}, None)
        await store.settled()
        assert await found(store, "large", "small") == [None, b"1"]
        redis_client.flushall()
        many = range(MAX_KEYS + 10)
        await put(store, *many)
        assert await found(store, *many) == [*(str(name).encode() for name in range(MAX_KEYS)), *[None] * 10]


async def test_nobody_there_is_asked_three_times_and_then_once_in_five_seconds(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock()
    async with scores(NOBODY, clock=clock) as store:
        asked = 0
        client = store._connection.client

        def counting() -> Any:
            nonlocal asked
            asked += 1
            return client()

        monkeypatch.setattr(store._connection, "client", counting)
        for _ in range(10):
            assert await found(store, "a") == [None]
        assert asked == FAILURES
        clock.now += PAUSE
        for _ in range(10):
            assert await found(store, "a") == [None]
        await store.settled()
        assert asked == FAILURES + 1
    assert [record.levelno for record in caplog.records] == [logging.WARNING]


async def test_it_comes_back(redis_server: RedisServer, redis_client: redis.Redis) -> None:
    clock = Clock()
    async with scores(redis_server, clock=clock) as store:
        await put(store, "a")
        for _ in range(FAILURES):
            store._connection.pause.failed(OSError())
        assert await found(store, "a") == [None]
        clock.now += PAUSE
        assert await found(store, "a") == [None]  # nobody waits on the try
        await store.settled()
        assert await found(store, "a") == [b"a"]


async def test_a_paused_server_costs_little_at_first_and_then_nothing(
    redis_server: RedisServer, redis_client: redis.Redis, bounds: tuple[float, float]
) -> None:
    clock = Clock()
    async with scores(redis_server, clock=clock) as store:
        await put(store, "a")
        redis_server.pause()
        try:
            first = [await seconds_of(lambda: found(store, "a")) for _ in range(FAILURES)]
            writing = await seconds_of(lambda: store.put("", {key("b"): b"b"}, None))
            afterwards = []
            for _ in range(500):
                clock.now += PAUSE / 100
                afterwards.append(await seconds_of(lambda: found(store, "a")))
        finally:
            redis_server.resume()
        await store.settled()
        assert max(first) < bounds[0]
        assert writing < bounds[1]
        assert sorted(afterwards)[494] < bounds[1]
        async with asyncio.timeout(10):
            while await found(store, "a") != [b"a"]:
                clock.now += PAUSE
                await put(store, "a")


async def test_a_call_that_is_given_up_leaves_nothing_behind_for_the_next(
    redis_server: RedisServer, redis_client: redis.Redis
) -> None:
    async with scores(redis_server) as store:
        await put(store, *range(50))
        for _ in range(20):
            tasks = [asyncio.ensure_future(found(store, name)) for name in range(50)]
            await asyncio.sleep(0.001)
            for task in tasks[::2]:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            for name, task in enumerate(tasks):
                assert task.cancelled() or task.result() in ([str(name).encode()], [None])
        assert await found(store, *range(50)) == [str(name).encode() for name in range(50)]


async def test_memory_goes_first_and_both_keep_what_is_put(
    redis_server: RedisServer, redis_client: redis.Redis
) -> None:
    async with scores(redis_server) as far:
        near = MemoryScores(2**20)
        both = Layered(near, far)
        await both.put("", {key("a"): b"a"}, None)
        await put(far, "b")
        assert await both.get("", [key("c"), key("b"), key("a")]) == [None, b"b", b"a"]
        redis_client.flushall()
        assert await both.get("", [key("b"), key("a")]) == [None, b"a"]


def test_a_store_outlives_its_event_loops(redis_server: RedisServer, redis_client: redis.Redis) -> None:
    store = RedisScores(redis_server.url, 60.0)

    async def there() -> list[bytes | None]:
        await put(store, "a")
        return await found(store, "a")

    for _ in range(2):
        with asyncio.Runner() as runner:
            assert runner.run(there()) == [b"a"]
            store.close()
            runner.run(asyncio.sleep(0))


@pytest.mark.parametrize(
    "url", ["redis://:hush-hush@host/0?no_such=1", "redis://:hush-hush@host/0?ssl_check_hostname=x"]
)
def test_a_url_that_cannot_be_used_is_a_setting_that_is_wrong_and_shows_no_password(url: str) -> None:
    with pytest.raises(BadSettings, match=r"server\.redis") as caught:
        RedisScores(url, 60.0)
    assert "hush" not in repr(caught.value) + str(caught.value.__cause__)


def test_without_the_client_it_is_said_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(BadSettings, match=r"pip install 'rerankd\[redis\]'"):
        RedisScores(NOBODY, 60.0)


# Whole applications


TEXTS = ["berlin is big", "a document", "the capital of something", "ä", ""]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.write_bert(tmp_path_factory.mktemp("bert"))


@asynccontextmanager
async def application(url: str, folder: Path | str, **model: Any) -> AsyncIterator[Application]:
    table = {"name": "m", "source": str(folder), "device": "cpu", "dtype": "float32", **model}
    with Application(Settings.parse({"models": [table], "server": {"redis": url}})) as served:
        try:
            yield served
        finally:
            assert served._shared is not None
            await served._shared.settled()
            served._shared.close()
            await asyncio.sleep(0)


async def answered(
    served: Application, *texts: str, owner: str = "", query: str = "berlin"
) -> tuple[list[tuple[int, bytes]], RerankResponse, bool]:
    call = Call("the-request", owner=owner)
    request = RerankRequest(query=query, documents=tuple(map(Document, texts or TEXTS)), model="m")
    answer = await served.rerank(request, call)
    assert served._shared is not None
    await served._shared.settled()
    rows = [(result.index, struct.pack("<d", result.relevance_score)) for result in answer.results]
    return rows, answer, call.notes.cached


async def test_two_servers_share_scores_bit_for_bit(
    redis_server: RedisServer, redis_client: redis.Redis, folder: Path
) -> None:
    async with application(redis_server.url, folder) as one, application(redis_server.url, folder) as two:
        computed, answer, cached = await answered(one)
        assert not cached
        recalled, again, cached = await answered(two)
        assert (cached, recalled) == (True, computed)
        assert again.usage.prompt_tokens == answer.usage.prompt_tokens == again.usage.cached_tokens
        _, part, cached = await answered(two, *reversed(TEXTS))
        assert (cached, part.usage.cached_tokens > 0) == (True, True)
        assert not (await answered(two, owner="another"))[2]
        assert all(redis_client.pttl(name) > 0 for name in names(redis_client))


async def test_servers_whose_models_differ_in_anything_share_nothing(
    redis_server: RedisServer, redis_client: redis.Redis, folder: Path, tmp_path: Path
) -> None:
    other = tiny.write_bert(tmp_path, seed=1)
    async with application(redis_server.url, folder) as one:
        await answered(one)
    for source, changes in (
        (other, {}),
        ("lexical", {}),
        (folder, {"max_length": 40}),
        (folder, {"max_query_length": 3}),
        (folder, {"score": "logit"}),
        (folder, {"dtype": "bfloat16"}),
        (folder, {"prefix_reuse": False}),
    ):
        async with application(redis_server.url, source, **changes) as two:
            assert not (await answered(two))[2], (source, changes)


@pytest.mark.parametrize("fault", ["paused", "killed"])
async def test_answers_go_on_without_redis_and_use_it_again_when_it_is_back(
    redis_server: RedisServer,
    redis_client: redis.Redis,
    fault: str,
    monkeypatch: pytest.MonkeyPatch,
    bounds: tuple[float, float],
) -> None:
    monkeypatch.setattr(redis_connection, "PAUSE", 0.2)
    async with application(redis_server.url, "lexical") as one, application(redis_server.url, "lexical") as two:
        (expected, _, _) = await answered(one)
        load = asyncio.ensure_future(loaded(one))
        await asyncio.sleep(0.05)
        (redis_server.pause if fault == "paused" else redis_server.kill)()
        try:
            times = await load
            assert (await answered(one))[0] == expected  # out of the memory
            assert (await answered(two))[0] == expected  # computed
        finally:
            (redis_server.resume if fault == "paused" else redis_server.start)()
        assert max(times) < sum(bounds)
        async with asyncio.timeout(10):
            for number in range(1000):
                await answered(one, query=f"back {number}")
                if (await answered(two, query=f"back {number}"))[2]:
                    break
                await asyncio.sleep(0.02)
            else:
                pytest.fail("Redis is there again and nobody uses it.")


async def loaded(served: Application) -> list[float]:
    """The seconds of 60 requests that come in twos, each with a query of its own."""
    times: list[float] = []

    async def one_after_another(name: int) -> None:
        for number in range(30):
            request = RerankRequest(query=f"{name} {number}", documents=tuple(map(Document, TEXTS)), model="m")
            times.append(await seconds_of(lambda request=request: served.rerank(request, Call("r"))))  # type: ignore[misc]
            await asyncio.sleep(0.005)

    await asyncio.gather(*map(one_after_another, range(2)))
    return times


async def test_a_server_starts_and_answers_while_redis_is_away() -> None:
    async with application(NOBODY, "lexical") as served:
        first = await answered(served)
        assert not first[2]
        again = await answered(served)
        assert (again[0], again[2]) == (first[0], True)


async def test_channels_of_one_name_share_scores_where_they_go_to_the_same_upstream_alone(
    redis_server: RedisServer, redis_client: redis.Redis
) -> None:
    async with Upstream(CALLED["jina"]) as here, Upstream(CALLED["jina"]) as there:
        assert await through_channel(redis_server, here.url) == (False, "there")
        assert await through_channel(redis_server, here.url) == (True, "there")
        assert await through_channel(redis_server, there.url) == (False, "there")
        assert await through_channel(redis_server, here.url, models={"m": "another"}) == (False, "there")


async def through_channel(server: RedisServer, url: str, **changes: Any) -> tuple[bool, str | None]:
    """Whether the answer was kept by somebody, and whose it is."""
    channel = {"name": "there", "dialect": "jina", "base_url": url, "models": {"m": "theirs"}, "allow_private": True}
    settings = Settings.parse({"channels": [channel | changes], "server": {"redis": server.url}})
    with Application(settings) as served:
        call = Call("the-request")
        request = RerankRequest(query="q", documents=tuple(map(Document, texts_for(0.25, 0.5))), model="m")
        answer = await served.rerank(request, call)
        assert served._shared is not None
        await served._shared.settled()
        await served.client.close()
    await asyncio.sleep(0)
    assert [result.relevance_score for result in answer.results] == [0.5, 0.25]
    return call.notes.cached, call.notes.channel


def test_the_password_is_in_no_text_about_the_settings() -> None:
    settings = Settings.parse({"server": {"redis": "rediss://:hush-hush@host:6379/0"}})
    assert "hush" not in repr(settings) + str(settings) + settings.model_dump_json()
    for wrong in ("http://:hush-hush@host", "redis://:hush-hush@host:port", "redis://:hush-hush@[host", "hush-hush"):
        with pytest.raises(BadSettings, match=r"server\.redis") as caught:
            Settings.parse({"server": {"redis": wrong}})
        assert "hush" not in repr(caught.value) + str(caught.value.__cause__)
