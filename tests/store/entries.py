"""Rows of the ledger for tests."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any

from hypothesis import strategies as st

from rerankd.accounts import Entry
from rerankd.policies.uuid7 import uuid7

NOON = 1_795_262_400_000
"""2026-11-21, 12:00 of UTC, in milliseconds."""
DAY_MS = 86_400_000
RECOMPUTED = """
    SELECT strftime('%Y-%m-%d', at / 1000, 'unixepoch') AS day, key_id, model, channel,
        sum(kind = 'request'), sum(kind = 'request' AND status != 200), sum(documents), sum(tokens), sum(cached_tokens),
        sum(estimated * tokens), sum(search_units), sum(cost)
    FROM ledger GROUP BY 1, 2, 3, 4 ORDER BY 1, 2, 3, 4
"""
"""`usage` as SQLite adds it up itself."""


def entry(**fields: Any) -> Entry:
    known = {
        "entry": uuid7(), "request_id": "the-request", "at": NOON, "key_id": "k1", "model": "bge", "channel": "local",
        "documents": 3, "status": 200, "tokens": 100, "cost": 2,
    }  # fmt: skip
    return Entry(**{**known, **fields})


def entries() -> st.SearchStrategy[list[Entry]]:
    counts = st.integers(-(2**40), 2**40)
    one = st.builds(
        entry,
        entry=st.uuids().map(lambda one: one.hex),
        at=st.integers(NOON - DAY_MS, NOON + DAY_MS),
        key_id=st.sampled_from(["", "k1", "k2"]),
        model=st.sampled_from(["bge", "m2", "名"]),
        channel=st.sampled_from(["", "local", "jina"]),
        documents=st.integers(0, 10_000),
        status=st.sampled_from([200, 429, 499, 502]),
        tokens=counts,
        cached_tokens=counts,
        search_units=counts,
        estimated=st.booleans(),
        cost=counts,
        kind=st.sampled_from(["request", "adjust"]),
    )
    return st.lists(one, max_size=100)


def looked_up(file: Path, statement: str, *values: object) -> list[tuple[Any, ...]]:
    connection = sqlite3.connect(file)
    found = connection.execute(statement, values).fetchall()
    connection.close()
    return found


def sums_kept(file: Path) -> list[tuple[Any, ...]]:
    return looked_up(file, "SELECT * FROM usage ORDER BY day, key_id, model, channel")


def sums_recomputed(file: Path) -> list[tuple[Any, ...]]:
    return looked_up(file, RECOMPUTED)
