"""What /openapi.json says of /admin: every route, closed, and answers that are what it says."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi.routing import APIRoute

from rerankd.app import Application
from rerankd.server.admin import admin_routes
from rerankd.server.admin_check import AdminCheck
from rerankd.server.keys import KeyCheck
from tests.server.conftest import settings
from tests.server.keeping import API, Keeping, keeping
from tests.server.test_admin_audit import CHANNEL
from tests.server.test_openapi import KINDS
from tests.store.entries import entry

Json = dict[str, Any]

with Application(settings(admin_key="the-admins-key")) as application:
    ROUTES = [
        route
        for route in admin_routes(application, KeyCheck(application.settings)).routes
        if isinstance(route, APIRoute)
    ]
PLACES = [(method, route.path) for route in ROUTES for method in route.methods or ()]
NOUNS = {"keys", "channels", "models", "usage", "requests", "settings", "audit"}


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Keeping]:
    with keeping(tmp_path_factory.mktemp("admin"), channels=[]) as running:
        yield running


@pytest.fixture(scope="module")
def document(here: Keeping) -> Json:
    found: Json = json.loads(here.client.get("/openapi.json").content)
    return found


def operations(document: Json) -> dict[tuple[str, str], Json]:
    return {
        (method.upper(), path): operation
        for path, methods in document["paths"].items()
        if path.startswith("/admin/")
        for method, operation in methods.items()
    }


def check(document: Json, value: Any, schema: Json) -> None:
    """Fails where `value` is not what the schema says; an object has no field that is not described."""
    if "$ref" in schema:
        found: Any = document
        for part in schema["$ref"].removeprefix("#/").split("/"):
            found = found[part]
        check(document, value, found)
    elif "anyOf" in schema:
        assert any(fits(document, value, choice) for choice in schema["anyOf"]), (value, schema)
    elif "enum" in schema:
        assert value in schema["enum"], (value, schema)
    elif "type" in schema:
        assert isinstance(value, KINDS[schema["type"]]), (value, schema)
        assert schema["type"] == "boolean" or not isinstance(value, bool)
        if isinstance(value, list):
            for item in value:
                check(document, item, schema["items"])
        if isinstance(value, dict) and set(schema) > {"type", "title", "description"}:
            assert set(schema.get("required", ())) <= set(value), (value, schema)
            for name, inner in value.items():
                check(document, inner, schema.get("properties", {}).get(name) or schema["additionalProperties"])


def fits(document: Json, value: Any, schema: Json) -> bool:
    try:
        check(document, value, schema)
    except (AssertionError, KeyError):
        return False
    return True


def test_every_route_is_described_and_no_other(document: Json) -> None:
    assert set(operations(document)) == set(PLACES)
    assert {path.split("/")[3] for _, path in PLACES} == NOUNS
    assert len(PLACES) == 18


def test_every_route_is_closed_and_says_what_it_is(document: Json) -> None:
    for route in ROUTES:
        assert any(isinstance(one.call, AdminCheck) for one in route.dependant.dependencies), route.path
    for place, operation in operations(document).items():
        assert operation["summary"], place
        assert operation["security"], place
        assert {"401", "403", "500", "503"} <= set(operation["responses"]), place
        assert all(answer["description"] for answer in operation["responses"].values()), place
        names = {parameter["name"] for parameter in operation.get("parameters", ()) if parameter["in"] == "path"}
        assert names == {part[1:-1] for part in place[1].split("/") if part.startswith("{")}, place
        assert ("requestBody" in operation) == (place[0] in ("POST", "PUT", "PATCH") and not place[1].endswith("test"))


def test_nothing_in_it_leads_nowhere(document: Json) -> None:
    assert "$defs" not in json.dumps(document)


def asked(here: Keeping) -> Iterator[tuple[str, str, Any]]:
    """Every route with something to answer, in an order in which there is something."""
    wrong = entry()
    here.record([wrong, entry(key_id="", status=502, error="upstream_error")])
    yield "POST", "/keys", {"name": "me", "limits": {"requests": 3}}
    for path in ("/keys", "/keys/{id}=me", "/settings"):
        yield "GET", path, None
    yield "PATCH", "/keys/{id}=me", {"quotas": {"day": 5}}
    yield "POST", "/keys/{id}=me/rotate", {"overlap_seconds": 5}
    yield "POST", "/channels", CHANNEL
    yield "PUT", "/channels/{name}=far", {name: value for name, value in CHANNEL.items() if name != "name"}
    yield "POST", "/channels/{name}=far/test", None
    yield "POST", "/channels/detect", {"base_url": "http://127.0.0.1:9", "model": "m", "allow_private": True}
    yield "POST", f"/requests/{{entry}}={wrong.entry}/adjust", {"tokens": -1}
    for path in ("/channels", "/models", "/usage?from=2026-11-20&to=2026-11-22&by=day,key", "/requests", "/audit"):
        yield "GET", path, None
    yield "DELETE", "/channels/{name}=far", None
    yield "DELETE", "/keys/{id}=me", None


def test_answers_are_what_the_schema_says(here: Keeping, document: Json) -> None:
    described = operations(document)
    seen = set()
    for method, place, body in asked(here):
        parts = [part.partition("=") for part in place.partition("?")[0].split("/")]
        path = API + "/".join(name for name, _, _ in parts)
        query = place.partition("?")[2]
        answer = here.client.request(
            method, API + "/".join(value or name for name, _, value in parts) + (query and f"?{query}"), json=body
        )
        good = described[method, path]["responses"].get(str(answer.status_code))
        assert answer.status_code < 300, (place, answer.text)
        assert good is not None, (place, answer.status_code)
        if "content" in good:
            check(document, answer.json(), good["content"]["application/json"]["schema"])
        else:
            assert answer.content == b""
        seen.add((method, path))
    assert seen == set(described)


@pytest.mark.parametrize(
    ("method", "path", "template", "status"),
    [
        ("POST", "/keys", "/keys", "400"),
        ("GET", "/keys/none", "/keys/{id}", "404"),
        ("GET", "/usage?by=x", "/usage", "400"),
        ("GET", "/requests?x=1", "/requests", "422"),
    ],
)
def test_errors_are_what_the_schema_says(
    here: Keeping, document: Json, method: str, path: str, template: str, status: str
) -> None:
    answer = here.client.request(method, API + path, json={} if method == "POST" else None)
    assert str(answer.status_code) == status
    schema = operations(document)[method, API + template]["responses"][status]["content"]["application/json"]["schema"]
    check(document, answer.json(), schema)


@pytest.mark.parametrize(("method", "path"), PLACES)
def test_nobody_gets_in_without_the_admins_key(tmp_path: Path, here: Keeping, method: str, path: str) -> None:
    there = path.replace("{id}", "me").replace("{name}", "far").replace("{entry}", "0")
    for key in ("", "Bearer wrong", "Bearer the-admins-ke"):
        answer = here.client.request(method, there, headers={"authorization": key}, json={})
        assert answer.status_code == 401, key
