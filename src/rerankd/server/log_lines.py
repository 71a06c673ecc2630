"""The log on stderr: each record one line, as text or as JSON, and nothing in a line that could pass for another line.

Lines of requests come in great numbers, so they are gathered and written together, at most 50 ms later. All others are
written at once, behind those that were gathered before them. A graceful end writes what is left; `kill -9` loses what was
gathered in the last 50 ms (rows of the ledger are not lost: they are durable before an answer goes out).
"""

from __future__ import annotations

import asyncio
import atexit
import logging
import os
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from time import gmtime, localtime, monotonic, strftime
from typing import Any, Literal
from urllib.parse import quote

import msgspec

from rerankd.server.tracebacks import lines_of

Style = Literal["text", "json"]

TEXT = "%(asctime)s %(levelname)s %(name)s %(message)s"
GATHERED = 0.05
"""Seconds for which a line may wait for others."""
MOST_GATHERED = 2**16
LONGEST = 200
LOOP = "asyncio"
NOISY = {
    "uvicorn": logging.WARNING,
    "asyncio": logging.WARNING,
    "httpx": logging.WARNING,
    "httpx2": logging.WARNING,
    "transformers": logging.WARNING,
    "huggingface_hub": logging.ERROR,  # it warns of each retry, twice
    # These tell what they send or store, at levels below.
    "aiosqlite": logging.WARNING,
    "sqlalchemy": logging.WARNING,
    "psycopg": logging.WARNING,
    "redis": logging.WARNING,
    "urllib3": logging.WARNING,
}


class Lines:
    """Where lines go: gathered from the event loop, or written at once from any thread."""

    def __init__(self, write: Callable[[bytes], None]) -> None:
        self._write = write
        self._gathered: list[bytes] = []
        self._size = 0
        self._since = 0.0
        self._lock = threading.Lock()

    def gather(self, line: bytes) -> None:
        """Written soon, with others; from the event loop."""
        if not self._gathered:
            self._since = monotonic()
            try:
                asyncio.get_running_loop().call_later(GATHERED, self.flush)
            except RuntimeError:  # no loop runs any more
                self.write(line)
                return
        with self._lock:
            self._gathered.append(line)
            self._size += len(line)
        if self._size > MOST_GATHERED or monotonic() - self._since > 2 * GATHERED:  # or the loop that was asked is gone
            self.flush()

    def write(self, line: bytes) -> None:
        """Written when it returns, behind what was gathered."""
        with self._lock:
            gathered, self._gathered, self._size = self._gathered, [], 0
            self._write(b"".join((*gathered, line)))

    def flush(self) -> None:
        if self._gathered:
            self.write(b"")


class LineHandler(logging.Handler):
    """Records of `logging` as lines among the others."""

    def __init__(self, lines: Lines, style: Style) -> None:
        super().__init__()
        self.lines = lines
        self.style = style
        self.setFormatter(JsonFormatter() if style == "json" else OneLine(TEXT))

    def emit(self, record: logging.LogRecord) -> None:
        try:
            self.lines.write(self.format(record).encode("utf-8", "backslashreplace") + b"\n")
        except Exception:
            self.handleError(record)

    def flush(self) -> None:
        self.lines.flush()


class OneLine(logging.Formatter):
    """Text whose message stays on its line, whoever's words it quotes; a traceback follows, moved in so that no part of it
    can pass for a line of the log.
    """

    def format(self, record: logging.LogRecord) -> str:
        record.exc_text = None  # another handler may have left its own there
        try:
            return super().format(record)
        finally:
            record.exc_text = None

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802
        record.message = visible(_message(record))
        return super().formatMessage(record)

    def formatException(self, ei: Any) -> str:  # noqa: N802
        return "\n".join(f"    {line}" for line in _traceback(ei))


class _Record(msgspec.Struct, omit_defaults=True):
    time: str
    level: str
    logger: str
    message: str
    exception: str = ""


class JsonFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        exception = "\n".join(_traceback(record.exc_info))
        line = _Record(utc(record.created), record.levelname, record.name, visible(_message(record)), exception)
        return str(msgspec.json.encode(line), "utf-8")


def _message(record: logging.LogRecord) -> str:
    """asyncio repeats the exception, and what a callback was called with."""
    message = record.getMessage()
    if record.name == LOOP and record.exc_info:
        return message.partition("\n")[0].partition("(")[0]
    return message


def _traceback(ei: Any) -> list[str]:
    error = ei[1] if ei else None
    return [] if error is None else list(map(visible, lines_of(error)))


def install(style: Style = "text", level: int = logging.INFO, write: Callable[[bytes], None] | None = None) -> Lines:
    """The log of this process goes to stderr in `style` from now on. A second call takes the place of the first."""
    # What no line shows need not be found out for each one.
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False
    logging._srcfile = None
    root = logging.getLogger()
    for handler in [handler for handler in root.handlers if isinstance(handler, LineHandler)]:
        handler.flush()
        root.removeHandler(handler)
        atexit.unregister(handler.lines.flush)
    lines = Lines(to_stderr if write is None else write)
    root.addHandler(LineHandler(lines, style))
    root.setLevel(level)
    for name, least in NOISY.items():
        logging.getLogger(name).setLevel(least)
    atexit.register(lines.flush)
    return lines


def installed() -> LineHandler | None:
    return next((handler for handler in logging.getLogger().handlers if isinstance(handler, LineHandler)), None)


def to_stderr(data: bytes) -> None:
    """All of it, or nothing where nobody reads it any more: a log must not stop what it tells of."""
    with suppress(OSError, ValueError):
        number = sys.stderr.fileno()
        while data:
            data = data[os.write(number, data) :]


def visible(text: str) -> str:
    """`text` as one line of what can be seen: nothing that moves a cursor, ends a line or turns the direction of writing."""
    return text if text.isprintable() else "".join(each if each.isprintable() else ascii(each)[1:-1] for each in text)


def word(text: str) -> str:
    """A client's own word as one word of ASCII, percent-encoded where it is none, and cut."""
    if len(text) > LONGEST:
        text = text[:LONGEST] + "…"
    if text.isascii() and text.isprintable() and " " not in text and '"' not in text:
        return text
    return quote(text, safe="/:@!$&'()*+,;=~?#[]", errors="replace")


class Clock:
    """Times as text. Only the milliseconds differ between two lines of one second."""

    def __init__(self, style: Style) -> None:
        self._utc = style == "json"
        self._second = -1
        self._text = ""

    def text(self, at: float) -> str:
        second = int(at)
        if second != self._second:
            self._text = utc(second)[:20] if self._utc else strftime("%Y-%m-%d %H:%M:%S,", localtime(second))
            self._second = second
        return f"{self._text}{int((at - second) * 1000):03d}{'Z' if self._utc else ''}"


def utc(at: float) -> str:
    """`2026-11-21T18:00:00.123Z`"""
    return f"{strftime('%Y-%m-%dT%H:%M:%S.', gmtime(at))}{int(at % 1 * 1000):03d}Z"
