"""The log as `rerankd serve` writes it, caught in memory."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from rerankd.server.log_lines import NOISY, Lines, Style, install, installed


class Caught:
    def __init__(self) -> None:
        self.data = bytearray()
        self.writes = 0
        self.lines: Lines | None = None

    def write(self, data: bytes) -> None:
        self.data += data
        self.writes += 1

    @property
    def text(self) -> str:
        """With what is still gathered."""
        assert self.lines is not None
        self.lines.flush()
        return self.data.decode()


@contextmanager
def logged(style: Style = "text", level: int = logging.INFO) -> Iterator[Caught]:
    """Everything that is logged until the block is left; then logging is as it was."""
    caught = Caught()
    root = logging.getLogger()
    levels = {name: logging.getLogger(name).level for name in ("", *NOISY, "opentelemetry")}
    with pytest.MonkeyPatch.context() as patch:
        for name in ("logThreads", "logProcesses", "logMultiprocessing", "_srcfile"):
            patch.setattr(logging, name, getattr(logging, name))
        caught.lines = install(style, level, caught.write)
        try:
            yield caught
        finally:
            handler = installed()
            assert handler is not None
            root.removeHandler(handler)
            for name, before in levels.items():
                logging.getLogger(name).setLevel(before)
