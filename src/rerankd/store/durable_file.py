"""A SQLite file for its owner alone: it writes ahead (WAL), waits for the disk (FULL), and for whoever else writes (5 s)."""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from pathlib import Path
from time import sleep

PRIVATE = 0o600
WAL_TRIES, WAL_WAIT = 100, 0.05


def make_durable(file: Path) -> None:
    """With mode 0600, as SQLite then makes the files beside it; what is there already is kept.

    Raises `sqlite3.Error` or `OSError`.
    """
    try:
        os.close(os.open(file, os.O_CREAT | os.O_EXCL | os.O_RDWR, PRIVATE))
    except FileExistsError:
        if file.stat().st_mode & 0o777 != PRIVATE:
            file.chmod(PRIVATE)
    with closing(sqlite3.connect(file, isolation_level=None)) as connection:
        for left in reversed(range(WAL_TRIES)):
            try:
                connection.execute("PRAGMA journal_mode = WAL")
                return
            except sqlite3.OperationalError as error:
                if not left or error.sqlite_errorcode != sqlite3.SQLITE_BUSY:
                    raise
                sleep(WAL_WAIT)  # another does the same, and SQLite does not wait for that itself, whatever its timeout


def open_durable(file: Path) -> sqlite3.Connection:
    """For the thread that calls; transactions begin and end where it says so. Raises `sqlite3.Error` or `OSError`."""
    make_durable(file)
    connection = sqlite3.connect(file, isolation_level=None)
    for pragma in ("busy_timeout = 5000", "synchronous = FULL"):
        connection.execute(f"PRAGMA {pragma}")
    return connection
