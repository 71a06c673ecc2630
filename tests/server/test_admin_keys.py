"""/admin/api/keys: a key's text is in one answer, and what it may is changed from then on."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from tests.server.keeping import ACTOR, Keeping, keeping

KEYS = "/admin/api/keys"


@pytest.fixture
def here(tmp_path: Path) -> Iterator[Keeping]:
    with keeping(tmp_path) as running:
        yield running


def made(here: Keeping, **more: Any) -> dict[str, Any]:
    answer = here.client.post(KEYS, json={"name": "me", **more})
    assert answer.status_code == 201, answer.text
    assert answer.headers["cache-control"] == "no-store"
    key: dict[str, Any] = answer.json()
    return key


def test_a_key_is_made_and_shown_once(here: Keeping, caplog: pytest.LogCaptureFixture, tmp_path: Path) -> None:
    caplog.set_level(logging.DEBUG)
    key = made(here, limits={"requests": 2}, models=["lexical"], networks=["10.1.2.3/8"])
    secret = key.pop("key")
    assert secret.startswith("sk-rr-")
    assert (key["limits"]["requests"], key["limits"]["tokens"], key["networks"]) == (2, None, ["10.0.0.0/8"])
    assert here.get(f"/keys/{key['id']}") == here.get("/keys/me") == key
    assert here.get("/keys") == {"keys": [key]}
    again = here.client.post(f"{KEYS}/me/rotate", json={"overlap_seconds": 60}).json()
    others = [here.client.get(KEYS).text, here.client.get("/admin/api/audit").text, caplog.text]
    others.append(here.client.patch(f"{KEYS}/me", json={"strict": True}).text)
    kept = b"".join(file.read_bytes() for file in tmp_path.rglob("*") if file.is_file())
    for one in (secret, again["key"]):
        assert [text for text in others if one in text or one[14:40] in text] == []
        assert one.encode() not in kept
    assert '"hash"' not in "".join(others)


def test_what_is_not_given_stays_and_null_takes_away(here: Keeping) -> None:
    made(here, limits={"requests": 2, "tokens": 100}, quotas={"month": 7}, expires=4_000_000_000)
    change = {"limits": {"tokens": None, "documents": 5}, "enabled": False, "name": "you", "expires": None}
    answer = here.client.patch(f"{KEYS}/me", json=change)
    assert answer.status_code == 200, answer.text
    key = here.get("/keys/you")
    assert key == answer.json()
    assert key["limits"] == {"requests": 2, "tokens": None, "documents": 5, "concurrency": None}
    assert (key["quotas"]["month"], key["enabled"], key["expires"]) == (7, False, None)
    assert here.client.get(f"{KEYS}/me").status_code == 404


def test_a_rotated_key_is_another_under_the_same_id(here: Keeping) -> None:
    first = made(here)
    again = here.client.post(f"{KEYS}/{first['id']}/rotate", json={"overlap_seconds": 60})
    assert (again.status_code, again.headers["cache-control"]) == (201, "no-store")
    assert (again.json()["id"], again.json()["key"] != first["key"]) == (first["id"], True)
    assert again.json()["former_until"] is not None


def test_a_revoked_key_is_listed_and_cannot_come_back(here: Keeping) -> None:
    made(here)
    assert here.client.delete(f"{KEYS}/me").json()["revoked"] is not None
    assert len(here.get("/keys")["keys"]) == 1
    for answer in (
        here.client.patch(f"{KEYS}/me", json={"enabled": True}),
        here.client.post(f"{KEYS}/me/rotate", json={}),
    ):
        assert answer.status_code == 409


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [("GET", "", None), ("PATCH", "", {}), ("POST", "/rotate", {}), ("DELETE", "", None)],
)
@pytest.mark.parametrize("name", ["another", "me%25", "%27 OR 1=1 --", "x" * 3000])
def test_what_is_not_there_is_not_found(here: Keeping, method: str, path: str, body: Any, name: str) -> None:
    made(here)
    assert here.client.request(method, f"{KEYS}/{name}{path}", json=body).status_code == 404


@pytest.mark.parametrize(
    ("wrong", "status", "named"),
    [
        ({"name": ""}, 400, "name"),
        ({"name": "a\nb"}, 400, "name"),
        ({"scope": "root"}, 400, "scope"),
        ({"limits": {"requests": 0}}, 400, "limits.requests"),
        ({"limits": {"requets": 1}}, 422, "limits.requets"),
        ({"limit": {}}, 422, "limit"),
        ({"quotas": {"day": -1}}, 400, "quotas.day"),
        ({"models": "m"}, 400, "models"),
        ({"models": [""]}, 400, "models[0]"),
        ({"networks": ["10.0.0.0/99"]}, 400, "networks"),
        ({"expires": 1}, 400, "expires"),
        ({"strict": "yes"}, 400, "strict"),
    ],
)
def test_what_cannot_be_a_key_is_refused_by_name(here: Keeping, wrong: dict[str, Any], status: int, named: str) -> None:
    answer = here.client.post(KEYS, json={"name": "me", **wrong})
    assert (answer.status_code, answer.json()["error"]["param"]) == (status, named), answer.text
    assert here.get("/keys") == {"keys": []}


def test_a_name_is_taken_once(here: Keeping) -> None:
    made(here)
    assert here.client.post(KEYS, json={"name": "me"}).status_code == 409


def test_each_change_is_in_the_log_with_who_made_it_and_without_secrets(here: Keeping) -> None:
    secret = made(here)["key"]
    here.client.patch(f"{KEYS}/me", json={"limits": {"requests": 5}})
    here.client.post(f"{KEYS}/me/rotate", json={})
    here.client.delete(f"{KEYS}/me")
    here.client.patch(f"{KEYS}/me", json={"limits": {"requests": 9}})  # refused: nothing has changed
    changes = here.get("/audit")["changes"]
    assert [change["action"] for change in changes] == ["key.revoke", "key.rotate", "key.update", "key.create"]
    assert {(change["actor"], change["target"]) for change in changes} == {(ACTOR, "me")}
    update = changes[2]
    assert (update["before"]["limits"]["requests"], update["after"]["limits"]["requests"]) == (None, 5)
    assert secret[14:] not in str(changes)


def test_a_change_whose_row_cannot_be_written_does_not_happen(here: Keeping) -> None:
    made(here)

    async def drop() -> None:
        async with here.database.transaction() as connection:
            await connection.execute(text("DROP TABLE audit"))

    here.call(drop)
    for answer in (
        here.client.post(KEYS, json={"name": "other"}),
        here.client.patch(f"{KEYS}/me", json={"enabled": False}),
        here.client.delete(f"{KEYS}/me"),
    ):
        assert answer.status_code == 500
    (key,) = here.get("/keys")["keys"]
    assert (key["name"], key["enabled"], key["revoked"]) == ("me", True, None)


@pytest.mark.parametrize("path", ["/keys", "/usage", "/requests", "/audit"])
def test_a_server_that_keeps_nothing_says_so(make_client: Any, path: str) -> None:
    client = make_client(admin_key="the-admins-key")
    answer = client.get(f"/admin/api{path}", headers={"x-api-key": "the-admins-key"})
    assert (answer.status_code, "keeps no" in answer.json()["message"]) == (409, True)
