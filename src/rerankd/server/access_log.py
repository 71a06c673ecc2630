"""One line for each request: who asked what for how much, how it ended and where the time went. Only what is listed here can
stand in it: no header's value, and no word of a query or a document.

It is written past `logging`, whose machinery costs several times as much as the line, where `log_lines` is installed;
elsewhere it is an ordinary record of the logger `rerankd.access`.
"""

from __future__ import annotations

import logging
from operator import attrgetter

import msgspec

from rerankd.server.facts import Facts
from rerankd.server.log_lines import Clock, installed, word
from rerankd.types import Call

LOGGER = "rerankd.access"
log = logging.getLogger(LOGGER)


class Line(msgspec.Struct, omit_defaults=True):
    """The fields of a line, in their order; what is empty is left out. Times are in milliseconds."""

    time: str
    level: str
    logger: str
    request: str
    method: str
    path: str
    status: int
    ms: float
    key: str = ""
    model: str = ""
    channel: str = ""
    documents: int = 0
    tokens: int = 0
    cached_tokens: int = 0
    queue_ms: float = 0.0
    tokenize_ms: float = 0.0
    infer_ms: float = 0.0
    upstream_ms: float = 0.0
    attempts: int = 0
    warnings: int = 0
    error: str = ""
    trace: str = ""


FURTHER = Line.__struct_fields__[8:]
"""Those that many lines do not have."""
_further = attrgetter(*FURTHER)
_encoder = msgspec.json.Encoder()


class AccessLog:
    """An Observer. Where the log goes is looked up when it is made."""

    def __init__(self) -> None:
        handler = installed()
        self._lines = None if handler is None else handler.lines
        self._json = handler is not None and handler.style == "json"
        self._clock = Clock("json" if self._json else "text")

    def ended(self, facts: Facts) -> None:
        level = logging.WARNING if facts.status >= 500 else logging.INFO
        if not log.isEnabledFor(level):
            return
        line = _line(facts, "WARNING" if level == logging.WARNING else "INFO")
        if self._lines is None:
            log.log(level, "%s", _text(line))
            return
        line.time = self._clock.text(facts.at + facts.seconds)
        if self._json:
            self._lines.gather(_encoder.encode(line) + b"\n")
        else:
            self._lines.gather(f"{line.time} {line.level} {LOGGER} {_text(line)}\n".encode())


def _line(facts: Facts, level: str) -> Line:
    line = Line(
        "",
        level,
        LOGGER,
        facts.request_id,
        facts.method,
        word(facts.path),
        facts.status,
        _hundredths(facts.seconds * 1000),
    )
    line.documents, line.warnings, line.error = facts.documents, facts.warnings, facts.error
    if facts.model:
        line.model = word(facts.model)
    if facts.traceparent:
        line.trace = facts.traceparent[3:35]
    if facts.usage is not None:
        line.tokens, line.cached_tokens = facts.usage.prompt_tokens, facts.usage.cached_tokens
    if facts.call is not None:
        _note(line, facts.call)
    return line


def _note(line: Line, call: Call) -> None:
    notes, timings = call.notes, call.notes.timings
    line.attempts = notes.attempts
    if call.caller is not None:
        line.key = call.caller.id
    if notes.channel:
        line.channel = word(notes.channel)
    if "upstream" in timings:
        line.upstream_ms = _hundredths(timings["upstream"])
    if "infer" in timings:
        line.queue_ms = _hundredths(timings.get("queue", 0.0))
        line.tokenize_ms = _hundredths(timings.get("tokenize", 0.0))
        line.infer_ms = _hundredths(timings["infer"])


def _hundredths(milliseconds: float) -> float:
    """Rounded, at a quarter of what `round` takes."""
    return int(milliseconds * 100 + 0.5) / 100


def _text(line: Line) -> str:
    """The request's id ends it, where whoever looks for one finds it at once."""
    said = "".join([f" {name}={value}" for name, value in zip(FURTHER, _further(line), strict=True) if value])
    return f"{line.status} {line.method} {line.path} {line.ms} ms{said} request={line.request}"
