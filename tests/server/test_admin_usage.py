"""/admin/api/usage: sums of the ledger, for programs and for spreadsheets."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from io import StringIO
from pathlib import Path
from typing import Any

import pytest

from rerankd.server import admin_usage
from rerankd.store.key_records import NewKey
from tests.server.keeping import Keeping, keeping
from tests.store.entries import DAY_MS, NOON, entry

DAYS = {"from": "2026-11-20", "to": "2026-11-22"}


@pytest.fixture
def here(tmp_path: Path) -> Iterator[Keeping]:
    with keeping(tmp_path) as running:
        yield running


def used(here: Keeping) -> str:
    """By a key, which is called a formula, and by others; returns the key's id."""
    key: str = here.call(lambda: here.keys.create(NewKey(name="=cmd|' /C calc'!A0"), actor="me"))[0].id
    here.record(
        [
            entry(key_id=key),
            entry(key_id=key, model="m2", status=502, tokens=0, cost=0),
            entry(key_id="gone", at=NOON + DAY_MS, estimated=True),
            entry(key_id="gone", kind="adjust", reference="x", documents=0, tokens=-30, cost=-9),
        ]
    )
    return key


def test_sums_by_any_of_the_four_with_the_names_of_keys(here: Keeping) -> None:
    key = used(here)
    found = here.get("/usage", **DAYS, by="model,key")
    assert (found["by"], found["currency"], found["next"]) == (["key", "model"], "EUR", None)
    rows = {(row["key"], row["model"]): row for row in found["rows"]}
    assert {place: (row["requests"], row["failed"], row["tokens"], row["cost"]) for place, row in rows.items()} == {
        (key, "bge"): (1, 0, 100, 2),
        (key, "m2"): (1, 1, 0, 0),
        ("gone", "bge"): (1, 0, 70, -7),
    }
    assert (rows[key, "bge"]["key_name"], rows["gone", "bge"]["key_name"]) == ("=cmd|' /C calc'!A0", None)
    assert "day" not in rows[key, "bge"]
    assert [row["day"] for row in here.get("/usage", **DAYS)["rows"]] == ["2026-11-21", "2026-11-22"]
    (whole,) = here.get("/usage", **DAYS, by="")["rows"]
    assert (whole["requests"], whole["tokens"], whole["estimated_tokens"]) == (3, 170, 100)
    (one,) = here.get("/usage", **DAYS, by="", key=key, model="m2")["rows"]
    assert (one["requests"], one["failed"]) == (1, 1)


def test_pages_are_the_whole(here: Keeping) -> None:
    used(here)
    whole = here.get("/usage", **DAYS, by="day,key,model")["rows"]
    paged: list[Any] = []
    more: dict[str, str] = {}
    while True:
        page = here.get("/usage", **DAYS, by="day,key,model", limit=1, **more)
        paged += page["rows"]
        if page["next"] is None:
            break
        more = {"after": page["next"]}
    assert paged == whole
    assert len(whole) == 4


@pytest.mark.parametrize(
    ("parameters", "headers"), [({"format": "csv"}, {}), ({}, {"accept": "text/csv, application/json;q=0.5"})]
)
def test_csv_has_the_same_numbers_and_no_formula(
    here: Keeping, parameters: dict[str, str], headers: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(admin_usage, "LARGEST_PAGE", 2)
    used(here)
    by = "day,key,model,channel"
    answer = here.client.get("/admin/api/usage", params={**DAYS, "by": by, **parameters}, headers=headers)
    assert answer.headers["content-type"] == "text/csv; charset=utf-8; header=present"
    assert "usage-2026-11-20-2026-11-22.csv" in answer.headers["content-disposition"]
    rows = list(csv.DictReader(StringIO(answer.text, newline="")))
    expected = here.get("/usage", **DAYS, by=by)["rows"]
    assert [int(row["cost"]) for row in rows] == [row["cost"] for row in expected]
    assert {row["currency"] for row in rows} == {"EUR"}
    assert sorted({row["key_name"] for row in rows}) == ["", "'=cmd|' /C calc'!A0"]
    assert len(rows) == 4


def test_without_days_it_is_the_last_thirty(here: Keeping) -> None:
    now = datetime.now(UTC)
    at = [int((now - timedelta(days=days)).timestamp() * 1000) for days in (0, 29, 30)]
    here.record([entry(at=one) for one in at])
    found = here.get("/usage", by="")
    assert found["rows"][0]["requests"] == 2
    assert datetime.fromisoformat(found["to"]) - datetime.fromisoformat(found["from"]) == timedelta(days=29)


@pytest.mark.parametrize(
    ("parameters", "status", "named"),
    [
        ({"by": "day,day"}, 400, "by"),
        ({"by": "hour"}, 400, "by"),
        ({"from": "2026-13-01"}, 400, "from"),
        ({"from": "yesterday"}, 400, "from"),
        ({"from": "2026-11-22", "to": "2026-11-21"}, 400, "to"),
        ({"from": "1900-01-01", "to": "2026-11-21"}, 400, "to"),
        ({"from": "9999-12-31", "to": "9999-12-31", "limit": "0"}, 400, "limit"),
        ({"limit": "10001"}, 400, "limit"),
        ({"limit": "x"}, 400, "limit"),
        ({"after": "nothing of ours"}, 400, "after"),
        ({"after": "WyJhIiwiYiJd"}, 400, "after"),
        ({"key": "a\x00"}, 400, "key"),
        ({"model": "m" * 257}, 400, "model"),
        ({"format": "xml"}, 400, "format"),
        ({"models": "m"}, 422, "models"),
    ],
)
def test_what_cannot_be_asked_is_refused_by_name(
    here: Keeping, parameters: dict[str, str], status: int, named: str
) -> None:
    answer = here.client.get("/admin/api/usage", params=parameters)
    assert (answer.status_code, f"`{named}`" in answer.json()["message"]) == (status, True), answer.text


@pytest.mark.parametrize("days", [{"from": "9999-12-31", "to": "9999-12-31"}, {"to": "0001-01-05"}])
def test_the_ends_of_the_calendar_are_no_failure(here: Keeping, days: dict[str, str]) -> None:
    assert here.client.get("/admin/api/usage", params=days).status_code in (200, 400)


def test_a_parameter_that_comes_twice_is_refused(here: Keeping) -> None:
    answer = here.client.get("/admin/api/usage?key=a&key=b")
    assert (answer.status_code, "twice" in answer.json()["message"]) == (400, True)
