"""What is looked up when somebody scrapes: queues, batches, breakers, the cache and the ledger as they are then."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Protocol, get_args

from prometheus_client import Metric
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from rerankd.engine.scheduler import Device
from rerankd.policies.breaker import Breaker, Status
from rerankd.version import __version__

STATUSES: tuple[str, ...] = get_args(Status)


class LedgerHealth(Protocol):
    @property
    def waiting(self) -> int:
        """Rows that are durable on this machine and not in the database yet."""
        ...

    @property
    def healthy(self) -> bool:
        """Whether the last commit worked."""
        ...


class KeptScores(Protocol):
    @property
    def used(self) -> int: ...
    @property
    def count(self) -> int: ...


class RedisHealth(Protocol):
    @property
    def open(self) -> bool:
        """Whether it is asked: not while it fails."""
        ...

    @property
    def count(self) -> int:
        """How often it failed, or took too long, since the start."""
        ...


class Watched(Protocol):
    """What is looked at; `kept` and `ledger` are None where there is no cache in memory, or no ledger; `redis` is by what it
    is used for, and empty where there is none.
    """

    @property
    def devices(self) -> Mapping[str, Device]: ...
    @property
    def breakers(self) -> Mapping[tuple[str, str], Breaker]: ...
    @property
    def kept(self) -> KeptScores | None: ...
    @property
    def ledger(self) -> LedgerHealth | None: ...
    @property
    def redis(self) -> Mapping[str, RedisHealth]: ...


class Scraped(Collector):
    def __init__(self, watched: Watched) -> None:
        self._watched = watched

    def collect(self) -> Iterator[Metric]:
        yield _gauge("rerankd_build_info", "Always 1; the version is the label.", ("version",), [((__version__,), 1.0)])
        yield from _devices(self._watched.devices)
        yield _breakers(self._watched.breakers)
        yield from _redis(self._watched.redis)
        kept, ledger = self._watched.kept, self._watched.ledger
        if kept is not None:
            yield GaugeMetricFamily("rerankd_cache_bytes", "Memory that kept scores take.", value=kept.used)
            yield GaugeMetricFamily("rerankd_cache_entries", "Scores and answers that are kept.", value=kept.count)
        if ledger is not None:
            yield GaugeMetricFamily(
                "rerankd_ledger_waiting_rows", "Rows that are safe here and not in the database.", value=ledger.waiting
            )
            yield GaugeMetricFamily(
                "rerankd_ledger_healthy", "Whether the last commit worked.", value=float(ledger.healthy)
            )


def _devices(devices: Mapping[str, Device]) -> Iterator[Metric]:
    loads = {name: device.admission.load for name, device in devices.items()}
    for name, says, values in (
        ("queue_requests", "Requests that are let in.", {name: load.requests for name, load in loads.items()}),
        ("queue_cost", "What is left of them, in tokens.", {name: load.cost for name, load in loads.items()}),
        ("queue_seconds", "What is left of them, in time.", {name: load.seconds for name, load in loads.items()}),
        (
            "queue_capacity_seconds",
            "The wait beyond which a request is refused.",
            {name: device.admission.max_wait for name, device in devices.items()},
        ),
        ("up", "Whether it works.", {name: float(device.trouble is None) for name, device in devices.items()}),
    ):
        yield _gauge(f"rerankd_device_{name}", says, ("device",), [((of,), value) for of, value in values.items()])
    for name, says, counts in (
        ("batches", "Batches that have begun.", {name: device.filled.batches for name, device in devices.items()}),
        ("batch_tokens", "The tokens in them.", {name: device.filled.tokens for name, device in devices.items()}),
        (
            "batch_room_tokens",
            "The tokens that they had room for.",
            {name: device.filled.room for name, device in devices.items()},
        ),
    ):
        family = CounterMetricFamily(f"rerankd_device_{name}", says, labels=("device",))
        for of, count in counts.items():
            family.add_metric((of,), count)
        yield family


def _breakers(breakers: Mapping[tuple[str, str], Breaker]) -> Metric:
    states = {key: breaker.state.status for key, breaker in breakers.items()}
    return _gauge(
        "rerankd_breaker_state",
        "1 for the state that it is in, 0 for the others.",
        ("channel", "model", "state"),
        [((*key, status), float(status == state)) for key, state in states.items() for status in STATUSES],
    )


def _redis(uses: Mapping[str, RedisHealth]) -> Iterator[Metric]:
    says = "Whether Redis is asked; requests go on without it where it is not."
    yield _gauge("rerankd_redis_up", says, ("use",), [((use,), float(health.open)) for use, health in uses.items()])
    failures = CounterMetricFamily("rerankd_redis_failures", "Failed or late answers of Redis.", labels=("use",))
    for use, health in uses.items():
        failures.add_metric((use,), health.count)
    yield failures


def _gauge(name: str, says: str, labels: tuple[str, ...], values: Iterable[tuple[tuple[str, ...], float]]) -> Metric:
    family = GaugeMetricFamily(name, says, labels=labels)
    for of, value in values:
        family.add_metric(of, value)
    return family
