from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import pytest
from prometheus_client.parser import text_string_to_metric_families

from rerankd.catalog import Catalog
from rerankd.engine.scheduler import Device
from rerankd.policies.breaker import Breaker
from rerankd.server.facts import Facts
from rerankd.server.metrics import Metrics
from rerankd.server.scraped import KeptScores, LedgerHealth, RedisHealth
from rerankd.types import ModelCard
from tests.server.conftest import MakeClient
from tests.server.facts import AT, facts

GOOD = ModelCard(name="good", family="channel", score="logit", source="far", device="remote", dtype="remote")
ADMIN = {"x-api-key": "the-admin-key"}
OF = {"model": "good", "channel": "far"}


@dataclass
class Served:
    catalog: Catalog = field(default_factory=lambda: Catalog([GOOD], {"also": "good"}))
    channels: Mapping[str, object] = field(default_factory=lambda: {"far": None})
    devices: Mapping[str, Device] = field(default_factory=dict)
    breakers: Mapping[tuple[str, str], Breaker] = field(default_factory=dict)
    kept: KeptScores | None = None
    ledger: LedgerHealth | None = None
    redis: Mapping[str, RedisHealth] = field(default_factory=dict)


def value(metrics: Metrics, name: str, labels: dict[str, str] | None = None) -> float | None:
    return metrics.registry.get_sample_value(name, labels or {})


def series(text: bytes) -> int:
    return sum(len(family.samples) for family in text_string_to_metric_families(text.decode()))


def test_a_request_is_counted_with_its_work() -> None:
    metrics = Metrics(Served())
    for _ in range(2):
        metrics.ended(facts())
    of_requests = {"route": "/v1/rerank", "dialect": "superset", "status": "200", **OF}
    assert value(metrics, "rerankd_requests_total", of_requests) == 2
    found = {
        name: value(metrics, f"rerankd_{name}_total", OF)
        for name in (
            "documents",
            "tokens",
            "cached_tokens",
            "estimated_tokens",
            "upstream_attempts",
            "upstream_retries",
        )
    }
    assert found == {
        "documents": 4,
        "tokens": 80,
        "cached_tokens": 20,
        "estimated_tokens": 80,
        "upstream_attempts": 6,
        "upstream_retries": 4,
    }


def test_times_are_in_seconds_and_fall_into_their_buckets() -> None:
    metrics = Metrics(Served())
    metrics.ended(facts())
    metrics.ended(facts(seconds=0.01))
    metrics.ended(facts(seconds=1000.0))
    buckets = {
        bound: value(metrics, "rerankd_request_duration_seconds_bucket", {**OF, "le": bound})
        for bound in ("0.005", "0.01", "0.025", "60.0", "+Inf")
    }
    assert buckets == {"0.005": 0, "0.01": 1, "0.025": 2, "60.0": 2, "+Inf": 3}
    assert value(metrics, "rerankd_request_duration_seconds_sum", OF) == pytest.approx(1000.022)
    upstream = {"stage": "upstream", **OF}
    assert value(metrics, "rerankd_stage_duration_seconds_sum", upstream) == pytest.approx(0.03)
    assert value(metrics, "rerankd_stage_duration_seconds_count", upstream) == 3


def test_whether_a_cache_helped() -> None:
    metrics = Metrics(Served())
    kept = facts()
    assert kept.call is not None
    kept.call.notes.cached = True
    metrics.ended(kept)
    metrics.ended(facts())
    outcomes = {
        outcome: value(metrics, "rerankd_cache_requests_total", {"outcome": outcome, **OF})
        for outcome in ("hit", "partial", "miss")
    }
    assert outcomes == {"hit": 1, "partial": 1, "miss": 0}


def test_refusals_are_counted_by_their_code() -> None:
    metrics = Metrics(Served())
    for code, status in (("invalid_api_key", 401), ("rate_limited", 429), ("quota_exceeded", 429), ("overloaded", 503)):
        metrics.ended(facts(status=status, error=code, usage=None))
        assert value(metrics, "rerankd_errors_total", {"code": code, "status": str(status)}) == 1


def test_what_clients_make_up_adds_no_series() -> None:
    metrics = Metrics(Served())
    metrics.ended(facts(model="made-up", status=404, path="/v1/rerank"))
    before = series(metrics.text())
    for number in range(1000):
        made_up = facts(model=f"made-up-{number}", status=404, path=f"/{number}", request_id=str(number))
        assert made_up.call is not None
        metrics.ended(made_up)
    assert series(metrics.text()) == before
    labels = {"route": "/v1/rerank", "dialect": "superset", "status": "404", "model": "other", "channel": "far"}
    assert value(metrics, "rerankd_requests_total", labels) == 1001
    assert b"made-up" not in metrics.text()
    assert b"AbCd1234" not in metrics.text()


def test_an_alias_and_a_channel_that_is_new_have_names_of_their_own() -> None:
    served = Served()
    metrics = Metrics(served)
    metrics.ended(facts(model="also", status=503))
    served.catalog = Catalog([GOOD, ModelCard(**{**_fields(GOOD), "name": "new"})])  # type: ignore[arg-type]
    metrics.ended(facts(model="new"))
    assert value(metrics, "rerankd_documents_total", {"model": "also", "channel": "far"}) == 2
    assert value(metrics, "rerankd_documents_total", {"model": "new", "channel": "far"}) == 2


def _fields(card: ModelCard) -> dict[str, object]:
    return {name: getattr(card, name) for name in card.__struct_fields__}


def test_what_is_no_reranking_is_counted_as_a_request_alone() -> None:
    metrics = Metrics(Served())
    metrics.ended(Facts("r", "GET", "/health/live", AT, 0.0, 200, 0.001, "/health/live"))
    of = {"route": "/health/live", "dialect": "", "status": "200", "model": "", "channel": ""}
    assert value(metrics, "rerankd_requests_total", of) == 1
    assert value(metrics, "rerankd_request_duration_seconds_count", {"model": "", "channel": ""}) is None


def test_the_process_is_there_too() -> None:
    metrics = Metrics(Served())
    assert (value(metrics, "process_resident_memory_bytes") or 0) > 2**20
    assert (value(metrics, "process_open_fds") or 0) > 2


def test_a_scrape_of_the_server_tells_of_a_request(make_client: MakeClient) -> None:
    client = make_client(admin_key="the-admin-key", api_key="the-rank-key")
    body = {"query": "q", "documents": ["a", "b"], "model": "jina-reranker-v3"}
    assert client.post("/v1/rerank", json=body, headers={"x-api-key": "the-rank-key"}).status_code == 200
    client.post("/v1/rerank", json=body)
    client.get("/nope/made-up")
    scraped = client.get("/metrics", headers=ADMIN)
    assert scraped.headers["content-type"].startswith("text/plain; version=")
    samples = {
        (sample.name, sample.labels.get("route", ""), sample.labels.get("status", "")): sample
        for family in text_string_to_metric_families(scraped.text)
        for sample in family.samples
    }
    asked = samples["rerankd_requests_total", "/v1/rerank", "200"]
    assert (asked.value, asked.labels["model"], asked.labels["channel"]) == (1, "lexical", "local")
    assert samples["rerankd_requests_total", "/v1/rerank", "401"].value == 1
    assert samples["rerankd_requests_total", "unmatched", "404"].value == 1
    assert samples["rerankd_errors_total", "", "401"].labels["code"] == "invalid_api_key"
    assert "made-up" not in scraped.text


def test_a_scrape_needs_the_admin_s_key_unless_the_settings_say_otherwise(make_client: MakeClient) -> None:
    keys = {"admin_key": "the-admin-key", "api_key": "the-rank-key"}
    closed, opened = make_client(**keys), make_client(**keys, server={"open_metrics": True})
    assert closed.get("/metrics").status_code == 401
    assert closed.get("/metrics", headers={"x-api-key": "the-rank-key"}).status_code in (401, 403)
    assert closed.get("/metrics", headers=ADMIN).status_code == 200
    assert opened.get("/metrics").status_code == 200


def test_applications_beside_each_other_count_apart(make_client: MakeClient) -> None:
    one, other = (make_client(server={"open_metrics": True}) for _ in range(2))
    one.get("/health/live")
    assert 'route="/health/live"' in one.get("/metrics").text
    assert 'route="/health/live"' not in other.get("/metrics").text
