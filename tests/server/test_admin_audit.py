"""/admin/api/audit: who changed what, newest first."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from rerankd.store.audit import AuditLog
from rerankd.store.database import Database, blocking
from tests.server.keeping import ACTOR, Keeping, keeping

CANARY = "sk-canary-0123456789"
CHANNEL: dict[str, Any] = {
    "name": "far",
    "dialect": "jina",
    "base_url": "http://127.0.0.1:9",
    "models": {"bge": "theirs"},
    "allow_private": True,
    "api_keys": [CANARY],
    "headers": {"x-more": CANARY},
}


@pytest.fixture
def here(tmp_path: Path) -> Iterator[Keeping]:
    with keeping(tmp_path) as running:
        yield running


def test_changes_of_channels_stand_in_it_without_their_secrets(here: Keeping) -> None:
    here.client.post("/admin/api/channels", json=CHANNEL)
    here.client.post("/admin/api/channels", json=CHANNEL)  # refused
    replaced = {name: value for name, value in CHANNEL.items() if name != "name"}
    here.client.put("/admin/api/channels/far", json={**replaced, "weight": 2.0})
    here.client.delete("/admin/api/channels/far")
    here.client.delete("/admin/api/channels/far")  # refused
    changes = here.get("/audit")["changes"]
    assert [change["action"] for change in changes] == ["channel.remove", "channel.replace", "channel.create"]
    assert {(change["actor"], change["target"]) for change in changes} == {(ACTOR, "far")}
    assert (changes[1]["before"]["fields"]["weight"], changes[1]["after"]["fields"]["weight"]) == (1.0, 2.0)
    assert (changes[0]["after"], changes[2]["before"]) == (None, None)
    assert CANARY not in str(changes)


def test_pages_are_the_whole(here: Keeping) -> None:
    for name in "abcde":
        here.client.post("/admin/api/keys", json={"name": name})
    found: list[str] = []
    more: dict[str, int] = {}
    while True:
        page = here.get("/audit", limit=2, **more)
        found += [change["target"] for change in page["changes"]]
        if page["next"] is None:
            break
        more = {"before": page["next"]}
    assert found == list("edcba")


def test_who_asks_without_a_key_from_this_machine_is_written_down_as_that(tmp_path: Path) -> None:
    with keeping(tmp_path, admin_key=None) as here:
        del here.client.headers["authorization"]
        here.client.headers["host"] = "localhost"
        assert here.client.post("/admin/api/keys", json={"name": "a"}).status_code == 201
        assert here.client.get("/admin/api/audit").status_code == 401, "from the first key on, one is needed"
    changes = blocking(AuditLog(Database(f"sqlite:///{tmp_path / 'rerankd.db'}")).page)
    assert [change.actor for change in changes] == ["this machine"]


@pytest.mark.parametrize(
    ("parameters", "status", "named"),
    [({"limit": "0"}, 400, "limit"), ({"before": "x"}, 400, "before"), ({"actor": "me"}, 422, "actor")],
)
def test_what_cannot_be_asked_is_refused_by_name(
    here: Keeping, parameters: dict[str, str], status: int, named: str
) -> None:
    answer = here.client.get("/admin/api/audit", params=parameters)
    assert (answer.status_code, f"`{named}`" in answer.json()["message"]) == (status, True), answer.text
