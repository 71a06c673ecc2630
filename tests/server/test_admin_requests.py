"""/admin/api/requests: the ledger's rows, and corrections that leave them as they are."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from rerankd.accounts import Entry
from rerankd.store.key_records import NewKey
from tests.server.keeping import ACTOR, Keeping, keeping
from tests.store.entries import DAY_MS, NOON, entry, sums_kept, sums_recomputed

REQUESTS = "/admin/api/requests"


@pytest.fixture
def here(tmp_path: Path) -> Iterator[Keeping]:
    with keeping(tmp_path) as running:
        yield running


def found(here: Keeping, **parameters: Any) -> list[str]:
    """The ids of all pages' requests."""
    ids: list[str] = []
    more: dict[str, str] = {}
    while True:
        page = here.get("/requests", **parameters, **more)
        ids += [row["request_id"] for row in page["requests"]]
        if page["next"] is None:
            return ids
        more = {"before": page["next"]}


def test_rows_newest_first_by_exact_filters_page_after_page(here: Keeping) -> None:
    key = here.call(lambda: here.keys.create(NewKey(name="me"), actor="me"))[0].id
    here.record(
        [
            entry(request_id="a", key_id=key, at=NOON),
            entry(request_id="b", model="100%", at=NOON + 1),
            entry(request_id="c", channel="jina", status=502, error="upstream_error", at=NOON + 2),
            entry(request_id="d", key_id="", at=NOON + DAY_MS),
        ]
    )
    assert found(here) == found(here, limit=1) == ["d", "c", "b", "a"]
    for parameters, expected in (
        ({"key": key}, ["a"]),
        ({"key": ""}, ["d"]),
        ({"key": "%"}, []),
        ({"model": "100%"}, ["b"]),
        ({"model": "%"}, []),
        ({"channel": "jina"}, ["c"]),
        ({"status": 502}, ["c"]),
        ({"request_id": "b"}, ["b"]),
        ({"from": "2026-11-22"}, ["d"]),
        ({"to": "2026-11-21"}, ["c", "b", "a"]),
        ({"from": "2026-11-21T13:00:00.001+01:00", "to": "2026-11-21T12:00:00.002Z"}, ["b"]),
    ):
        assert found(here, **parameters) == expected, parameters
    (row,) = here.get("/requests", request_id="a")["requests"]
    assert (row["key"], row["key_name"], row["tokens"], row["cost"], row["kind"]) == (key, "me", 100, 2, "request")


def test_a_correction_is_a_row_of_its_own_and_in_the_sums(here: Keeping, tmp_path: Path) -> None:
    wrong = entry(request_id="a")
    here.record([wrong])
    before = here.get("/requests")["requests"]
    body = {"tokens": -30, "cost": -1, "reason": "The upstream billed less."}
    answer = here.client.post(f"{REQUESTS}/{wrong.entry}/adjust", json=body)
    assert answer.status_code == 201, answer.text
    made = answer.json()
    assert (made["kind"], made["reference"], made["tokens"], made["cost"]) == ("adjust", wrong.entry, -30, -1)
    rows = here.get("/requests", request_id="a")["requests"]
    assert [row for row in rows if row["kind"] == "request"] == before
    assert [row for row in rows if row["kind"] == "adjust"] == [made]
    assert sums_kept(tmp_path / "rerankd.db") == sums_recomputed(tmp_path / "rerankd.db")
    (change,) = here.get("/audit")["changes"]
    assert (change["actor"], change["action"], change["target"]) == (ACTOR, "request.adjust", wrong.entry)
    assert (change["before"], change["after"]) == ({"tokens": 100, "cost": 2}, {"entry": made["entry"], **body})


def test_a_correction_that_is_sent_again_under_its_key_is_made_once(here: Keeping, tmp_path: Path) -> None:
    wrong, other = entry(request_id="a"), entry(request_id="b")
    here.record([wrong, other])

    def adjusted(which: Entry, key: str, tokens: int = -30) -> Any:
        headers = {"idempotency-key": key}
        return here.client.post(f"{REQUESTS}/{which.entry}/adjust", json={"tokens": tokens}, headers=headers)

    first, again = adjusted(wrong, "one"), adjusted(wrong, "one")
    assert (first.status_code, again.status_code, first.json()) == (201, 201, again.json())
    assert ("idempotent-replayed" in first.headers, again.headers["idempotent-replayed"]) == (False, "true")
    refused = adjusted(wrong, "one", tokens=-31)
    assert (refused.status_code, refused.json()["error"]["code"]) == (422, "idempotency_mismatch")
    assert {adjusted(other, "one").status_code, adjusted(wrong, "two").status_code} == {201}
    made = [row for row in here.get("/requests")["requests"] if row["kind"] == "adjust"]
    assert [row["tokens"] for row in made] == [-30, -30, -30]
    assert len(here.get("/audit")["changes"]) == 3
    assert sums_kept(tmp_path / "rerankd.db") == sums_recomputed(tmp_path / "rerankd.db")
    assert adjusted(wrong, "").status_code == 400


@pytest.mark.parametrize(
    ("body", "status", "named"),
    [
        ({}, 400, "tokens"),
        ({"tokens": 1.5}, 400, "tokens"),
        ({"tokens": "1"}, 400, "tokens"),
        ({"cost": 10**16}, 400, "cost"),
        ({"tokens": 1, "reason": "r" * 501}, 400, "reason"),
        ({"token": 1}, 422, "token"),
    ],
)
def test_what_is_no_correction_is_refused_by_name(here: Keeping, body: dict[str, Any], status: int, named: str) -> None:
    wrong = entry()
    here.record([wrong])
    answer = here.client.post(f"{REQUESTS}/{wrong.entry}/adjust", json=body)
    assert (answer.status_code, f"`{named}`" in answer.json()["message"]) == (status, True), answer.text
    assert len(here.get("/requests")["requests"]) == 1
    assert here.get("/audit")["changes"] == []


def test_only_a_request_that_is_there_can_be_corrected(here: Keeping) -> None:
    wrong = entry()
    here.record([wrong])
    first = here.client.post(f"{REQUESTS}/{wrong.entry}/adjust", json={"tokens": 1}).json()["entry"]
    for name, status in ((first, 409), ("f" * 32, 404), ("%", 404), ("a" * 5000, 404), ("a%00b", 404)):
        assert here.client.post(f"{REQUESTS}/{name}/adjust", json={"tokens": 1}).status_code == status, name


def test_a_correction_that_cannot_be_written_down_does_not_happen(here: Keeping) -> None:
    wrong = entry()
    here.record([wrong])

    async def drop() -> None:
        async with here.database.transaction() as connection:
            await connection.execute(text("DROP TABLE audit"))

    here.call(drop)
    assert here.client.post(f"{REQUESTS}/{wrong.entry}/adjust", json={"tokens": 1}).status_code == 500
    assert len(here.get("/requests")["requests"]) == 1


@pytest.mark.parametrize(
    ("parameters", "status", "named"),
    [
        ({"limit": "501"}, 400, "limit"),
        ({"status": "ok"}, 400, "status"),
        ({"from": "2026-11-21T10:00:00"}, 400, "from"),
        ({"to": "9999-12-31"}, 400, "to"),
        ({"before": "WzEsMl0x"}, 400, "before"),
        ({"before": "WyJhIiwyXQ"}, 400, "before"),
        ({"search": "a"}, 422, "search"),
    ],
)
def test_what_cannot_be_asked_is_refused_by_name(
    here: Keeping, parameters: dict[str, str], status: int, named: str
) -> None:
    answer = here.client.get(REQUESTS, params=parameters)
    assert (answer.status_code, f"`{named}`" in answer.json()["message"]) == (status, True), answer.text
