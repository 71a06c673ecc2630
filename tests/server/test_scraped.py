from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest
from prometheus_client import CollectorRegistry

from rerankd.engine.admission import Rate
from rerankd.engine.scheduler import Device
from rerankd.errors import UpstreamRefused, UpstreamUnavailable
from rerankd.policies.breaker import FAILURES_IN_A_ROW, Breaker
from rerankd.policies.score_store import MemoryScores
from rerankd.server.scraped import STATUSES, LedgerHealth, Scraped
from rerankd.store.redis_connection import FAILURES, Pause
from tests.engine.fake_models import Echo, job_of


@dataclass
class Health:
    waiting: int = 7
    healthy: bool = False


@dataclass
class Watched:
    devices: dict[str, Device] = field(default_factory=dict)
    breakers: dict[tuple[str, str], Breaker] = field(default_factory=dict)
    kept: MemoryScores | None = None
    ledger: LedgerHealth | None = None
    redis: dict[str, Pause] = field(default_factory=dict)


@pytest.fixture
def device() -> Iterator[Device]:
    device = Device("cpu", max_wait=12.0)
    yield device
    device.close()


def value(watched: Watched, name: str, **labels: str) -> float | None:
    registry = CollectorRegistry()
    registry.register(Scraped(watched))
    return registry.get_sample_value(name, labels)


def of_device(device: Device, name: str) -> float | None:
    return value(Watched(devices={"cpu": device}), f"rerankd_device_{name}", device="cpu")


def test_the_queue_of_a_device_in_requests_tokens_and_seconds(device: Device) -> None:
    rate = Rate(1000.0)
    with device.admission.enter(500.0, rate, None), device.admission.enter(1500.0, rate, None):
        found = [of_device(device, f"queue_{name}") for name in ("requests", "cost", "seconds", "capacity_seconds")]
    assert found == [2, 2000, 2, 12]
    assert of_device(device, "queue_requests") == 0
    assert of_device(device, "up") == 1


async def test_how_full_batches_were(device: Device) -> None:
    runner = Echo(batch_tokens=16)
    await asyncio.gather(device.run(job_of(runner, 1, [4, 4])), device.run(job_of(runner, 2, [40])))
    batches, tokens, room = (
        of_device(device, f"{name}_total") for name in ("batches", "batch_tokens", "batch_room_tokens")
    )
    assert batches == len(runner.batches)
    assert tokens == 48
    assert room == 16 * (len(runner.batches) - 1) + 40  # a sequence that is longer than a batch fills its own


def test_each_breaker_is_in_one_state() -> None:
    open_one, refused = Breaker(), Breaker()
    for _ in range(FAILURES_IN_A_ROW):
        open_one.failed(open_one.admit(), UpstreamUnavailable("away"))
    refused.failed(refused.admit(), UpstreamRefused("canary"))
    watched = Watched(breakers={("a", "m"): Breaker(), ("b", "m"): open_one, ("c", "m"): refused})
    found = {
        channel: [
            state
            for state in STATUSES
            if value(watched, "rerankd_breaker_state", channel=channel, model="m", state=state)
        ]
        for channel in "abc"
    }
    assert found == {"a": ["closed"], "b": ["open"], "c": ["needs a person"]}


async def test_the_cache_and_the_ledger_where_there_are_any() -> None:
    kept = MemoryScores(2**20)
    await kept.put("", {b"k" * 32: b"v" * 100}, None)
    watched = Watched(kept=kept, ledger=Health())
    assert value(watched, "rerankd_cache_bytes") == kept.used > 0
    assert value(watched, "rerankd_cache_entries") == 1
    assert value(watched, "rerankd_ledger_waiting_rows") == 7
    assert value(watched, "rerankd_ledger_healthy") == 0
    assert value(Watched(), "rerankd_cache_bytes") is None
    assert value(Watched(), "rerankd_ledger_healthy") is None


def test_the_first_failure_of_redis_is_counted_and_the_third_takes_it_down() -> None:
    limits, found = Pause("alone"), []
    watched = Watched(redis={"limits": limits, "scores": Pause("alone")})
    for _ in range(FAILURES):
        limits.failed(OSError())
        found.append([value(watched, f"rerankd_redis_{name}", use="limits") for name in ("failures_total", "up")])
    assert found == [[1, 1], [2, 1], [3, 0]]
    limits.succeeded()
    assert value(watched, "rerankd_redis_up", use="limits") == 1
    assert value(watched, "rerankd_redis_failures_total", use="scores") == 0
    assert value(Watched(), "rerankd_redis_up", use="limits") is None
