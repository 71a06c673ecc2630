from __future__ import annotations

import logging
import socket
import subprocess
import sys
from time import monotonic

import pytest

from rerankd.errors import BadSettings
from rerankd.server.facts import Facts
from rerankd.server.tracing import Tracing, tracing
from rerankd.settings import TelemetrySettings
from tests.server.collector import attributes, collecting
from tests.server.facts import AT, facts
from tests.server.logged import logged

TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


def said(flags: str) -> list[tuple[bytes, bytes]]:
    return [(b"host", b"x"), (b"traceparent", f"00-{TRACE}-{PARENT}-{flags}".encode())]


@pytest.fixture(autouse=True)
def _loud_again() -> object:
    before = logging.getLogger("opentelemetry").level
    yield
    logging.getLogger("opentelemetry").setLevel(before)


def told(traced: Tracing, headers: list[tuple[bytes, bytes]] | None = None, **others: object) -> Facts:
    request = facts(**others)
    assert request.call is not None
    request.call.notes.began = {"parse": 100.001, "upstream": 100.0015}
    traced.began(request, headers or [])
    traced.ended(request)
    return request


def sampled(request: Facts) -> bool:
    return bool(int(request.traceparent[-2:], 16) & 1)


def test_a_request_is_a_span_with_its_stages_in_it_at_their_times() -> None:
    with collecting() as collector:
        traced = Tracing(collector.url, 1.0)
        request = told(traced, said("01"))
        traced.close()
    server, upstream, parse = (collector.spans[name] for name in ("POST /v1/rerank", "upstream", "parse"))
    assert collector.paths == ["/v1/traces"]
    assert (server.trace_id.hex(), server.parent_span_id.hex()) == (TRACE, PARENT)
    assert upstream.parent_span_id == parse.parent_span_id == server.span_id
    assert request.traceparent == f"00-{TRACE}-{server.span_id.hex()}-01"
    assert server.start_time_unix_nano == int(AT * 1e9)
    assert server.end_time_unix_nano - server.start_time_unix_nano == pytest.approx(12e6, abs=1000)
    assert upstream.start_time_unix_nano - server.start_time_unix_nano == pytest.approx(1.5e6, abs=1000)
    assert upstream.end_time_unix_nano - upstream.start_time_unix_nano == pytest.approx(10e6, abs=1000)


def test_a_span_says_what_was_asked_and_how_it_ended_and_no_text() -> None:
    with collecting() as collector:
        traced = Tracing(collector.url + "/v1/traces", 1.0)
        told(traced, status=503, error="overloaded")
        traced.close()
    assert collector.paths == ["/v1/traces"]
    server = collector.spans["POST /v1/rerank"]
    assert attributes(server) == {
        "http.request.method": "POST",
        "http.route": "/v1/rerank",
        "http.response.status_code": 503,
        "rerankd.request_id": "the-request",
        "rerankd.dialect": "superset",
        "rerankd.model": "good",
        "rerankd.channel": "far",
        "rerankd.documents": 2,
        "rerankd.attempts": 3,
        "rerankd.cached": False,
        "rerankd.tokens": 40,
        "rerankd.cached_tokens": 10,
        "error.type": "overloaded",
    }
    assert server.status.code == 2
    assert b"canary" not in b"".join(collector.bodies)


def test_whoever_asks_decides_what_is_traced_and_of_the_others_the_sample_does() -> None:
    with collecting() as collector:
        never, always = Tracing(collector.url, 0.0), Tracing(collector.url, 1.0)
        assert not sampled(told(never))
        assert not sampled(told(always, said("00")))
        assert not collector.bodies
        assert sampled(told(never, said("01")))
        never.close()
        always.close()
    assert len(collector.spans) == 3


@pytest.mark.parametrize("junk", [b"", b"junk", b"00-0-0-01", b"ff-" + b"a" * 5000, b"\xff\xfe"])
def test_a_parent_that_is_none_begins_a_trace_of_our_own(junk: bytes) -> None:
    with collecting() as collector:
        traced = Tracing(collector.url, 1.0)
        request = told(traced, [(b"traceparent", junk)])
        traced.close()
    assert not collector.spans["POST /v1/rerank"].parent_span_id
    assert len(request.traceparent) == 55


def test_a_collector_that_is_away_costs_a_line_in_the_log_and_no_time() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    with logged() as caught:
        traced = Tracing(f"http://user:canary@127.0.0.1:{port}", 1.0)
        started = monotonic()
        for _ in range(10_000):  # more than may wait
            traced.began(request := facts(), [])
            traced.ended(request)
        assert monotonic() - started < 20
        traced.close()
        assert monotonic() - started < 40
    (line,) = caught.text.splitlines()
    assert f"traces do not reach http://127.0.0.1:{port}/v1/traces" in line


def test_without_an_endpoint_there_is_nothing_and_nothing_is_imported() -> None:
    assert tracing(TelemetrySettings()) is None
    program = "import sys, rerankd.server.tracing; print([name for name in sys.modules if 'opentelemetry' in name])"
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, timeout=60, check=True)
    assert ended.stdout.strip() == b"[]"


def test_where_opentelemetry_is_missing_it_is_said_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry.sdk.trace", None)
    with pytest.raises(BadSettings, match=r"pip install 'rerankd\[otel\]'"):
        tracing(TelemetrySettings(otlp_endpoint="http://localhost:4318"))
