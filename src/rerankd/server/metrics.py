"""What is counted of requests, under /metrics as Prometheus reads it; docs/observability.md says what each is good for.

No label can take more values than there are routes, formats, served models, channels, codes and stages: what a client makes
up is counted as `other`. It is counted in plain numbers, on the event loop alone; what can be looked up is not counted but
looked up at the scrape (`scraped.py`).
"""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import accumulate
from typing import Any, Protocol

from fastapi import APIRouter, Depends
from prometheus_client import CollectorRegistry, Metric, ProcessCollector
from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.registry import Collector
from starlette.responses import Response

from rerankd.catalog import Catalog
from rerankd.server import openapi
from rerankd.server.facts import Facts
from rerankd.server.scraped import Scraped, Watched
from rerankd.types import LOCAL, Notes, Usage

OTHER = "other"
"""The model or channel that nobody serves here."""
BUCKETS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
"""Seconds: from what a kept answer takes to the longest deadline that is usual."""
BOUNDS = (*map(str, BUCKETS), "+Inf")
OF = ("model", "channel")


class Served(Watched, Protocol):
    """What is asked of the application; its `catalog` and `channels` are other ones after each change."""

    @property
    def catalog(self) -> Catalog: ...
    @property
    def channels(self) -> Mapping[str, object]: ...


class Timing:
    __slots__ = ("counts", "seconds")

    def __init__(self) -> None:
        self.counts = [0] * len(BOUNDS)
        self.seconds = 0.0

    def add(self, seconds: float) -> None:
        self.counts[bisect_left(BUCKETS, seconds)] += 1
        self.seconds += seconds


class Work:
    """What was done by one model through one channel."""

    def __init__(self) -> None:
        self.duration = Timing()
        self.stages: defaultdict[str, Timing] = defaultdict(Timing)
        self.documents = self.tokens = self.cached = self.estimated = self.attempts = self.retries = 0
        self.outcomes = {"hit": 0, "partial": 0, "miss": 0}

    def count(self, facts: Facts) -> None:
        self.duration.add(facts.seconds)
        self.documents += facts.documents
        if facts.call is not None:
            self._count_notes(facts.call.notes)
            if facts.usage is not None:
                self._count_usage(facts.usage, facts.call.notes.cached)

    def _count_notes(self, notes: Notes) -> None:
        stages = self.stages
        for stage, milliseconds in notes.timings.items():
            stages[stage].add(milliseconds / 1000)
        if notes.attempts:
            self.attempts += notes.attempts
            self.retries += notes.attempts - 1

    def _count_usage(self, usage: Usage, kept: bool) -> None:
        self.tokens += usage.prompt_tokens
        self.cached += usage.cached_tokens
        if usage.estimated:
            self.estimated += usage.prompt_tokens
        self.outcomes["hit" if kept else "partial" if usage.cached_tokens else "miss"] += 1


class Counted:
    """The requests of one route, format, status, model and channel, and the work that they are a part of, if they rank."""

    __slots__ = ("requests", "work")

    def __init__(self, work: Work | None) -> None:
        self.requests = 0
        self.work = work


class Metrics(Collector):
    """An Observer, with a registry of its own."""

    def __init__(self, served: Served) -> None:
        self._served = served
        self._requests: dict[tuple[str, str, int, str, str], Counted] = {}
        self._work: defaultdict[tuple[str, str], Work] = defaultdict(Work)
        self._errors: defaultdict[tuple[str, int], int] = defaultdict(int)
        self.registry = CollectorRegistry()
        self.registry.register(self)
        self.registry.register(Scraped(served))
        ProcessCollector(registry=self.registry)

    def ended(self, facts: Facts) -> None:
        found = self._requests.get((facts.route, facts.dialect, facts.status, facts.model, facts.channel))
        if found is None:
            found = self._found(facts)
        found.requests += 1
        if facts.error:
            self._errors[facts.error, facts.status] += 1
        if found.work is not None:
            found.work.count(facts)

    def _found(self, facts: Facts) -> Counted:
        """Under names that are served: those that a client makes up are never kept."""
        model = facts.model if facts.model in self._served.catalog.names() else OTHER if facts.model else ""
        channel = facts.channel if facts.channel in ("", LOCAL, *self._served.channels) else OTHER
        key = (facts.route, facts.dialect, facts.status, model, channel)
        if key not in self._requests:
            self._requests[key] = Counted(self._work[model, channel] if facts.dialect else None)
        return self._requests[key]

    def text(self) -> bytes:
        return generate_latest(self.registry)

    def collect(self) -> Iterator[Metric]:
        yield _counter(
            "requests",
            "Requests that have ended.",
            ("route", "dialect", "status", *OF),
            (
                ((route, dialect, str(status), *of), found.requests)
                for (route, dialect, status, *of), found in self._requests.items()
            ),
        )
        yield _counter(
            "errors",
            "Requests that ended with an error.",
            ("code", "status"),
            (((code, str(status)), count) for (code, status), count in self._errors.items()),
        )
        yield from _counters(self._work)
        yield from _timings(self._work)

    def describe(self) -> Iterable[Metric]:
        """Nothing to look through for names that are taken: the registry is ours."""
        return ()


def _counters(work: Mapping[tuple[str, str], Work]) -> Iterator[Metric]:
    for name, says, kept in (
        ("documents", "Documents in requests that were read.", "documents"),
        ("tokens", "Tokens in answers, kept ones and estimated ones included.", "tokens"),
        ("cached_tokens", "Tokens that a cache saved.", "cached"),
        ("estimated_tokens", "Tokens that nobody counted exactly.", "estimated"),
        ("upstream_attempts", "Calls that went out to upstreams.", "attempts"),
        ("upstream_retries", "Those after the first one of a request.", "retries"),
    ):
        yield _counter(name, says, OF, ((of, getattr(one, kept)) for of, one in work.items()))
    yield _counter(
        "cache_requests",
        "Answers, by whether a cache gave all of it, a part or nothing.",
        ("outcome", *OF),
        (((outcome, *of), count) for of, one in work.items() for outcome, count in one.outcomes.items()),
    )


def _timings(work: Mapping[tuple[str, str], Work]) -> Iterator[Metric]:
    yield _histogram(
        "request_duration",
        "From a request's head to the last byte of its answer.",
        OF,
        ((of, one.duration) for of, one in work.items()),
    )
    yield _histogram(
        "stage_duration",
        "What each stage of it took.",
        ("stage", *OF),
        (((stage, *of), timing) for of, one in work.items() for stage, timing in one.stages.items()),
    )


def _counter(name: str, says: str, labels: tuple[str, ...], counts: Iterable[tuple[tuple[str, ...], int]]) -> Metric:
    family = CounterMetricFamily(f"rerankd_{name}", says, labels=labels)
    for of, count in counts:
        family.add_metric(of, count)
    return family


def _histogram(
    name: str, says: str, labels: tuple[str, ...], timings: Iterable[tuple[tuple[str, ...], Timing]]
) -> Metric:
    family = HistogramMetricFamily(f"rerankd_{name}_seconds", says, labels=labels)
    for of, timing in timings:
        family.add_metric(of, list(zip(BOUNDS, accumulate(timing.counts), strict=True)), timing.seconds)
    return family


def metrics_routes(metrics: Metrics, check: Callable[..., Any] | None) -> APIRouter:
    """GET /metrics, behind `check`, the admin's; open where that is None."""
    router = APIRouter(tags=["health"], dependencies=[] if check is None else [Depends(check)])

    @router.get(
        "/metrics",
        summary="What is counted, for Prometheus",
        response_class=Response,
        openapi_extra={} if check is None else openapi.CLOSED,
    )
    async def show() -> Response:
        return Response(metrics.text(), media_type=CONTENT_TYPE_LATEST)

    return router
