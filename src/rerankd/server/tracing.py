"""Traces by OpenTelemetry: a span for each request, spans in it for its stages, and the trace's name handed on to upstreams.

They have no text and no key. They go out in batches from a thread of their own; where the collector cannot be reached, the
log says so once and they are dropped. Without `telemetry.otlp_endpoint` none of this is imported.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from rerankd.errors import BadSettings
from rerankd.server.facts import Facts
from rerankd.settings import TelemetrySettings
from rerankd.version import __version__

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import ReadableSpan
    from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult
    from opentelemetry.trace import Span

log = logging.getLogger("rerankd.tracing")

MOST_WAITING = 4096
AT_ONCE = 512
EVERY = 2000.0
"""Milliseconds between two batches."""
PATIENCE = 3.0
"""Seconds for a batch."""
TRACES = "/v1/traces"
PARENT = (b"traceparent", b"tracestate")


def tracing(settings: TelemetrySettings) -> Tracing | None:
    """None where no endpoint is set. Raises `BadSettings` where OpenTelemetry is not installed."""
    if settings.otlp_endpoint is None:
        return None
    try:
        return Tracing(settings.otlp_endpoint, settings.sample)
    except ImportError:
        raise BadSettings(
            "telemetry.otlp_endpoint needs OpenTelemetry, which is not installed: pip install 'rerankd[otel]'"
        ) from None


class Tracing:
    """A Tracer. A request whose parent was decided on is traced as that one was; of the others, the share `sample` is."""

    def __init__(self, endpoint: str, sample: float) -> None:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
        from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased
        from opentelemetry.trace import SpanKind, StatusCode, set_span_in_context
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        logging.getLogger("opentelemetry").setLevel(logging.CRITICAL)  # what it would say for each batch we say once
        url = endpoint.rstrip("/")
        url = url if url.endswith(TRACES) else url + TRACES
        self._exporter = _Reported(OTLPSpanExporter(url, timeout=PATIENCE), _without_password(url))
        self._provider = TracerProvider(
            sampler=ParentBased(TraceIdRatioBased(sample)),
            resource=Resource.create({"service.name": "rerankd", "service.version": __version__}),
            shutdown_on_exit=False,
        )
        self._provider.add_span_processor(
            BatchSpanProcessor(
                self._exporter,  # type: ignore[arg-type]  # it is one but for its name
                max_queue_size=MOST_WAITING,
                schedule_delay_millis=EVERY,
                max_export_batch_size=AT_ONCE,
            )
        )
        self._tracer = self._provider.get_tracer("rerankd", __version__)
        self._extract = TraceContextTextMapPropagator().extract
        self._within = set_span_in_context
        self._server, self._failed = SpanKind.SERVER, StatusCode.ERROR
        self._spans: dict[str, Span] = {}

    def began(self, facts: Facts, headers: list[tuple[bytes, bytes]]) -> None:
        said = {str(name, "ascii"): str(value, "latin-1") for name, value in headers if name in PARENT}
        span = self._tracer.start_span(
            facts.method, self._extract(said) if said else None, self._server, start_time=_nanoseconds(facts.at)
        )
        its = span.get_span_context()
        facts.traceparent = f"00-{its.trace_id:032x}-{its.span_id:016x}-{its.trace_flags:02x}"
        if span.is_recording():
            self._spans[facts.traceparent] = span

    def ended(self, facts: Facts) -> None:
        span = self._spans.pop(facts.traceparent, None)
        if span is None:
            return
        span.update_name(f"{facts.method} {facts.route}")
        span.set_attributes(_attributes(facts))
        if facts.status >= 500:
            span.set_status(self._failed)
        self._stages(facts, span)
        span.end(_nanoseconds(facts.at + facts.seconds))

    def _stages(self, facts: Facts, span: Span) -> None:
        """A stage that comes several times is one span, from where it first began and as long as all of them."""
        if facts.call is None:
            return
        notes, within = facts.call.notes, self._within(span)
        for stage, began in notes.began.items():
            start = facts.at + began - facts.started
            child = self._tracer.start_span(stage, within, start_time=_nanoseconds(start))
            child.end(_nanoseconds(start + notes.timings[stage] / 1000))

    def close(self) -> None:
        """Sends what is left, if the collector takes it; within some seconds in any case."""
        self._exporter.close_soon()
        self._provider.shutdown()


def _attributes(facts: Facts) -> dict[str, str | int | bool]:
    attributes: dict[str, str | int | bool] = {
        "http.request.method": facts.method,
        "http.route": facts.route,
        "http.response.status_code": facts.status,
        "rerankd.request_id": facts.request_id,
        "rerankd.dialect": facts.dialect,
        "rerankd.model": facts.model[:200],
        "rerankd.channel": facts.channel,
        "rerankd.documents": facts.documents,
    }
    if facts.call is not None:
        attributes["rerankd.attempts"] = facts.call.notes.attempts
        attributes["rerankd.cached"] = facts.call.notes.cached
    if facts.usage is not None:
        attributes["rerankd.tokens"] = facts.usage.prompt_tokens
        attributes["rerankd.cached_tokens"] = facts.usage.cached_tokens
    if facts.error:
        attributes["error.type"] = facts.error
    return attributes


def _without_password(url: str) -> str:
    parts = urlsplit(url)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2], query="").geturl()


def _nanoseconds(seconds: float) -> int:
    return int(seconds * 1_000_000_000)


class _Reported:
    """A SpanExporter whose failures are a line in the log when they begin, and one when they are over."""

    def __init__(self, inner: SpanExporter, url: str) -> None:
        self._inner = inner
        self._url = url
        self._failing = False
        self._closing = False

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        from opentelemetry.sdk.trace.export import SpanExportResult

        if self._closing and self._failing:
            return SpanExportResult.FAILURE
        result = self._inner.export(spans)
        failed = result is not SpanExportResult.SUCCESS
        if failed and not self._failing:
            log.warning("traces do not reach %s and are dropped until they do", self._url)
        elif self._failing and not failed:
            log.warning("traces reach %s again", self._url)
        self._failing = failed
        return result

    def close_soon(self) -> None:
        """Nothing more is tried in vain."""
        self._closing = True
        if self._failing:
            self._inner.shutdown()

    def shutdown(self) -> None:
        self._inner.shutdown()

    def force_flush(self, timeout_millis: int = 30000) -> bool:
        return self._inner.force_flush(timeout_millis)
