"""The command line as a person runs it: arguments and standard input in, both outputs and the exit status out."""

from __future__ import annotations

import fcntl
import io
import os
import pty
import struct
import subprocess
import sys
import termios
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import pytest

from rerankd.cli.main import main


@dataclass(frozen=True)
class Outcome:
    status: int
    out: str
    err: str


class Run(Protocol):
    def __call__(self, *arguments: str, stdin: bytes = b"") -> Outcome: ...


@pytest.fixture(autouse=True)
def _no_terminal_from_outside(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("FORCE_COLOR", "GITHUB_ACTIONS", "NO_COLOR", "PY_COLORS", "TTY_COMPATIBLE", "TTY_INTERACTIVE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("COLUMNS", "200")


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs `rerankd ARGUMENTS` in an empty folder, without a terminal."""

    def run(*arguments: str, stdin: bytes = b"") -> Outcome:
        out, err = io.BytesIO(), io.BytesIO()
        out_text, err_text = (io.TextIOWrapper(raw, encoding="utf-8", write_through=True) for raw in (out, err))
        with monkeypatch.context() as patched:
            patched.setattr(sys, "argv", ["rerankd", *arguments])
            patched.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin), encoding="utf-8"))
            patched.setattr(sys, "stdout", out_text)
            patched.setattr(sys, "stderr", err_text)
            with pytest.raises(SystemExit) as exited:
                main()
            status = exited.value.code
        assert isinstance(status, int)
        return Outcome(status, out.getvalue().decode(), err.getvalue().decode())

    return run


def on_terminal(columns: int, stdin: bytes, *arguments: str) -> str:
    """What `rerankd ARGUMENTS` sends to a terminal of so many columns, while `stdin` is typed; it must succeed."""
    terminal, inside = pty.openpty()
    fcntl.ioctl(inside, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    environment: dict[str, Any] = {**os.environ, "TERM": "xterm"}
    environment.pop("COLUMNS", None)
    command = [sys.executable, "-c", "from rerankd.cli.main import main; main()", *arguments]
    with subprocess.Popen(command, stdin=inside, stdout=inside, stderr=inside, env=environment) as process:
        os.close(inside)
        os.write(terminal, stdin)
        sent = b""
        while True:
            try:
                part = os.read(terminal, 65536)
            except OSError:  # how Linux says that nobody holds the other end any more
                break
            if not part:
                break
            sent += part
        os.close(terminal)
    assert process.returncode == 0
    return sent.decode()
