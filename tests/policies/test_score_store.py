from __future__ import annotations

import os
import tracemalloc
from hashlib import sha256

from hypothesis import given
from hypothesis import strategies as st

from rerankd.policies.score_store import OVERHEAD, MemoryScores, size_of

MUCH = 2**20


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def key(name: object) -> bytes:
    return sha256(str(name).encode()).digest()


async def found(store: MemoryScores, *names: object, owner: str = "") -> list[bytes | None]:
    return await store.get(owner, [key(name) for name in names])


async def test_what_was_put_is_found_in_the_order_asked_for() -> None:
    store = MemoryScores(MUCH)
    await store.put("", {key("a"): b"1", key("b"): b"2"}, None)
    assert await found(store, "b", "c", "a") == [b"2", None, b"1"]


async def test_owners_do_not_see_each_others_entries() -> None:
    store = MemoryScores(MUCH)
    await store.put("one", {key("a"): b"1"}, None)
    await store.put("two", {key("a"): b"2"}, None)
    assert await found(store, "a") == [None]
    assert await found(store, "a", owner="one") == [b"1"]
    assert await found(store, "a", owner="two") == [b"2"]


async def test_an_entry_is_gone_when_its_time_is_up_and_its_room_is_free() -> None:
    clock = Clock()
    store = MemoryScores(MUCH, clock)
    await store.put("", {key("a"): b"1"}, 10)
    await store.put("", {key("b"): b"2"}, None)
    clock.now += 9.9
    assert await found(store, "a") == [b"1"]
    clock.now += 0.1
    assert await found(store, "a", "b") == [None, b"2"]
    assert store.count == 1
    assert store.used == size_of(key("b"), b"2")


async def test_what_was_not_used_for_longest_makes_room() -> None:
    store = MemoryScores(2 * size_of(key("a"), b"1"))
    await store.put("", {key("a"): b"1", key("b"): b"2"}, None)
    await found(store, "a")
    await store.put("", {key("c"): b"3"}, None)
    assert await found(store, "a", "b", "c") == [b"1", None, b"3"]


async def test_an_entry_that_is_put_again_counts_once_and_takes_its_new_value() -> None:
    store = MemoryScores(MUCH)
    await store.put("", {key("a"): b"old"}, None)
    await store.put("", {key("a"): b"newer"}, None)
    assert await found(store, "a") == [b"newer"]
    assert store.used == size_of(key("a"), b"newer")


async def test_what_is_larger_than_the_store_is_not_kept_and_drives_nothing_else_out() -> None:
    store = MemoryScores(1000)
    await store.put("", {key("a"): b"1"}, None)
    await store.put("", {key("b"): b"x" * 1000}, None)
    assert await found(store, "a", "b") == [b"1", None]


async def test_a_store_of_nothing_keeps_nothing() -> None:
    store = MemoryScores(0)
    await store.put("", {key("a"): b""}, None)
    assert (await found(store, "a"), store.used) == ([None], 0)


@given(
    st.integers(0, 5000),
    st.lists(st.tuples(st.integers(0, 9), st.binary(max_size=400), st.sampled_from([None, 1.0, 5.0])), max_size=60),
)
async def test_it_never_holds_more_than_it_may(allowed: int, puts: list[tuple[int, bytes, float | None]]) -> None:
    clock = Clock()
    store = MemoryScores(allowed, clock)
    for name, value, ttl in puts:
        await store.put("o", {key(name): value}, ttl)
        clock.now += 0.5
        await found(store, (name + 3) % 10, owner="o")
        held = [value for value in await found(store, *range(10), owner="o") if value is not None]
        assert store.used == sum(size_of(b"o" + key(0), value) for value in held)
        assert store.used <= allowed
        assert store.count == len(held)


async def test_what_it_counts_is_no_less_than_what_python_takes() -> None:
    """At sizes where the tables are at their emptiest, and after much has come and gone."""
    for entries in (2_731, 5_462):
        allowed = entries * (33 + 32 + 33 + 40 + OVERHEAD)
        keys = iter([os.urandom(32) for _ in range(3 * entries)])
        tracemalloc.start()
        before = tracemalloc.get_traced_memory()[0]
        store = MemoryScores(allowed)
        for number, name in enumerate(keys):
            await store.put("o", {name: b"%040d" % number}, 3600)
            if number in (entries - 1, 2 * entries):
                taken = tracemalloc.get_traced_memory()[0] - before
                assert taken <= store.used
        taken = tracemalloc.get_traced_memory()[0] - before
        tracemalloc.stop()
        assert 0.5 * store.used < taken <= store.used <= allowed
