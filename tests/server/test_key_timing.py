"""How long a key takes tells nothing of how much of it is right. It is a proof for a quiet machine: `make soak`."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable
from gc import disable, enable
from math import erfc, sqrt
from pathlib import Path
from random import Random
from statistics import fmean, variance
from time import perf_counter_ns

import pytest
from starlette.requests import Request

from rerankd.api_keys import CHECKSUM_LENGTH, _checksum
from rerankd.errors import Unauthenticated
from rerankd.server.keys import KeyCheck, keys_of
from rerankd.settings import Settings
from rerankd.store.database import Database
from rerankd.store.key_records import NewKey
from rerankd.store.keys import KeyStore
from tests.server.test_known_keys import asking

pytestmark = pytest.mark.skipif("SOAK" not in os.environ, reason="a busy machine tells times that are not the keys'")

STATIC = "a-key-of-the-settings-0123456789-0123456789"
OF_EACH = 4000
KEPT = 0.9
"""The slowest are of the machine, not of the keys."""
SIGNIFICANT, TRIES = 0.01, 10
"""What a comparison tells is there each time; what a busy machine tells is not."""


def whole(body: str) -> bytes:
    return (body + _checksum(body.encode())).encode()


def pair(key: str) -> tuple[bytes, bytes]:
    """All but the last character right, and none; both wrong, and both with their checksum where there is one."""
    last, first = ("0" if key[-1] != "0" else "1"), ("0" if key[14:15] != "0" else "1")
    if not key.startswith("sk-rr-"):
        return f"{key[:-1]}{last}".encode(), f"{'b' * len(key)}".encode()
    body = key[:-CHECKSUM_LENGTH]
    end = "0" if body[-1] != "0" else "1"
    return whole(body[:-1] + end), whole(body[:14] + first + "z" * (len(body) - 15))


def significance(one: list[int], other: list[int]) -> float:
    """Welch's test of two means, from both sides, for samples as large as these."""
    some, more = (sorted(each)[: int(len(each) * KEPT)] for each in (one, other))
    spread = sqrt(variance(some) / len(some) + variance(more) / len(more))
    return erfc(abs(fmean(some) - fmean(more)) / spread / sqrt(2))


def measured(work: Callable[[Request], object], keys: tuple[bytes, bytes], chance: Random) -> float:
    times: dict[bytes, list[int]] = {key: [] for key in keys}
    order = [key for key in keys for _ in range(OF_EACH)]
    chance.shuffle(order)
    disable()
    try:
        for key in order:
            request = asking(bytes(bytearray(key)))  # another each time: where in the memory it lies takes time, too
            began = perf_counter_ns()
            work(request)
            times[key].append(perf_counter_ns() - began)
    finally:
        enable()
    return significance(*times.values())


@pytest.fixture
async def stored(tmp_path: Path) -> AsyncIterator[tuple[KeyCheck, str]]:
    store = KeyStore(Database(f"sqlite:///{tmp_path / 'keys.db'}"))
    _, key = await store.create(NewKey(name="me"), actor="test")
    check = KeyCheck(Settings.parse({"auth": {"mode": "required"}, "api_key": STATIC}), store)
    await check.start()
    yield check, key.reveal()
    await check.stop()


@pytest.mark.parametrize("kind", ["stored", "of the settings"])
async def test_a_key_that_is_nearly_right_takes_as_long_as_one_that_is_not(
    stored: tuple[KeyCheck, str], kind: str
) -> None:
    check, key = stored
    keys = pair(key if kind == "stored" else STATIC)
    for each in keys:
        with pytest.raises(Unauthenticated):
            await check.caller(asking(each))  # from now on both are known to be wrong

    def ask(request: Request) -> None:
        try:
            check.cached(request)
        except Unauthenticated:
            return
        raise AssertionError

    found = []
    for seed in range(TRIES):
        found.append(measured(ask, keys, Random(seed)))  # noqa: S311  (it shuffles, and guards nothing)
        if found[-1] > SIGNIFICANT:
            break
    print(f"{kind}: p = {', '.join(f'{one:.3f}' for one in found)}")  # noqa: T201
    assert found[-1] > SIGNIFICANT


def test_the_test_tells_a_comparison_that_stops_at_the_first_difference() -> None:
    secret = b"a" * 50_000
    near, far = secret[:-1] + b"b", b"b" + secret[1:]

    def compare(request: Request) -> bool:
        return keys_of(request)[0] == secret

    assert measured(compare, (near, far), Random(0)) < SIGNIFICANT  # noqa: S311
