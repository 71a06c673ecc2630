from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.routing import iter_route_contexts
from starlette.testclient import TestClient

from rerankd.app import Application
from rerankd.books import Books
from rerankd.errors import BadSettings
from rerankd.secret import Secret
from rerankd.server.http import create_app
from rerankd.server.keys import check_exposure
from rerankd.server.routes import prefixes
from rerankd.settings import Settings
from rerankd.store.database import Database, blocking
from rerankd.store.key_records import NewKey
from rerankd.store.keys import KeyStore
from tests.server.conftest import MakeClient, settings
from tests.server.live import serving_on_a_port
from tests.server.rerankers import Remembering
from tests.server.wire import BODY, wire

KEY, ADMIN_KEY = "correct-horse", "the-admins-key"
ADMIN = ("/admin/", "/metrics")
"""How routes begin that a key for ranking does not open."""
INSIDE = (b"relevance_score", b'"object":"list"', b'"channels":')
"""What only closed routes answer with."""
PATIENCE = 10.0
CLOSED = [("POST", "/rerank"), ("POST", "/v1/rerank"), ("GET", "/v1/models"), ("GET", "/info")]
OPEN = {
    "/docs",
    "/docs/oauth2-redirect",
    "/health",
    "/health/live",
    "/health/ready",
    "/healthz",
    "/v1/cluster/auth",
    "/xinference/v1/cluster/auth",
    *(f"/{prefix}/health" for prefix in prefixes()),
    "/openapi.json",
    "/static-offline-docs",
}

each_closed = pytest.mark.parametrize(("method", "path"), CLOSED)


@dataclass(frozen=True)
class Keyed:
    """An app with stored keys, one of each scope."""

    app: FastAPI
    client: TestClient
    rank: str
    admin: str


@pytest.fixture
def guarded(make_client: MakeClient) -> TestClient:
    return make_client(api_key=KEY)


@pytest.fixture(scope="module")
def guarded_port() -> Iterator[int]:
    guarded = settings(api_key=KEY, admin_key=ADMIN_KEY, server={"port": 0})
    with Application(guarded) as application, serving_on_a_port(application) as port:
        yield port


def status(client: TestClient, method: str, path: str, headers: dict[str, str] | None = None) -> int:
    content = BODY if method == "POST" else None
    return client.request(method, path, content=content, headers=headers).status_code


def routes(app: FastAPI) -> dict[str, set[str]]:
    """Every path of the app and its methods; a mounted folder counts as a path."""
    found: dict[str, set[str]] = {}
    for route in iter_route_contexts(app.routes):
        path = route.path or getattr(route.original_route, "path", None)
        assert path, f"a route without a path: {route}"
        found.setdefault(path, set()).update(route.methods or {"GET"})
    return found


@pytest.fixture
def keyed(tmp_path: Path) -> Iterator[Keyed]:
    store = KeyStore(Database(f"sqlite:///{tmp_path / 'keys.db'}"))
    admin = blocking(store.ensure_admin)
    rank = blocking(lambda: store.create(NewKey(name="me", models=("lexical",)), actor="test"))[1]
    assert admin is not None
    checked = settings(auth={"mode": "required"})
    with Application(checked, books=Books(keys=store)) as application:
        app = create_app(application)
        yield Keyed(app, TestClient(app, raise_server_exceptions=False), rank.reveal(), admin.reveal())


def test_every_route_is_closed_but_for_its_own_scope_unless_it_is_listed_here_as_open(keyed: Keyed) -> None:
    found = routes(keyed.app)
    assert {path for _, path in CLOSED} <= set(found)
    assert set(found) >= OPEN
    for path in set(found) - OPEN:
        admins = path.startswith(ADMIN)
        for method in found[path]:
            of_rank, of_admin = (
                status(keyed.client, method, path, {"x-api-key": key}) for key in (keyed.rank, keyed.admin)
            )
            assert status(keyed.client, method, path) == 401, (method, path)
            assert (of_rank if admins else of_admin) == 403, (method, path)
            assert (of_admin if admins else of_rank) not in (401, 403), (method, path)


def test_a_stored_key_ranks_where_the_static_one_would(keyed: Keyed) -> None:
    for path in ("/rerank", "/v1/rerank", "/jina/v1/rerank"):
        assert status(keyed.client, "POST", path, {"authorization": f"Bearer {keyed.rank}"}) == 200
    assert keyed.client.get("/v1/cluster/auth").json() == {"auth": True}


def test_the_model_list_is_of_what_the_key_may_use(tmp_path: Path) -> None:
    store = KeyStore(Database(f"sqlite:///{tmp_path / 'keys.db'}"))
    lists: dict[tuple[str, ...], Secret] = {(): blocking(partial(store.create, NewKey(name="all"), actor="test"))[1]}
    for models in (("lexical",), ("words",), ("other",), ("none",)):
        new = NewKey(name=f"for {models}", models=models)
        lists[models] = blocking(partial(store.create, new, actor="test"))[1]
    checked = settings(models=[{"name": "lexical", "aliases": ["words"]}, {"name": "other", "source": "lexical"}])
    with Application(checked, books=Books(keys=store)) as application:
        client = TestClient(create_app(application))
        shown: dict[tuple[str, ...], list[str]] = {}
        for allowed, key in lists.items():
            headers = {"x-api-key": key.reveal()}
            shown[allowed] = [entry["id"] for entry in client.get("/v1/models", headers=headers).json()["data"]]
            found = client.get("/v1/models/other", headers=headers).status_code
            assert found == (200 if "other" in shown[allowed] else 404)
    assert shown == {
        (): ["lexical", "other", "words"],
        ("lexical",): ["lexical", "words"],
        ("words",): ["lexical", "words"],
        ("other",): ["other"],
        ("none",): [],
    }


def test_the_open_routes_answer_without_a_key(guarded: TestClient) -> None:
    for path in OPEN - {"/static-offline-docs"}:
        assert status(guarded, "GET", path) == 200, path
    assert status(guarded, "GET", "/static-offline-docs/swagger-ui.css") == 200


@each_closed
@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"authorization": ""},
        {"authorization": "Bearer"},
        {"authorization": "Bearer "},
        {"authorization": "Bearer wrong-horse"},
        {"authorization": "wrong-horse"},
        {"authorization": f"Basic {KEY}"},
        {"authorization": f"Bearer {KEY}x"},
        {"authorization": f"Bearer {KEY[:-1]}"},
        {"authorization": f"Bearer {KEY.upper()}"},
        {"x-api-key": ""},
        {"x-api-key": "wrong-horse"},
        {"api-key": "wrong-horse"},
        {"cookie": f"api-key={KEY}"},
        {"key": KEY},
    ],
    ids=str,
)
def test_a_closed_route_is_a_401_without_the_right_key(
    guarded: TestClient, method: str, path: str, headers: dict[str, str]
) -> None:
    answer = guarded.request(method, path, content=BODY if method == "POST" else None, headers=headers)
    assert answer.status_code == 401
    assert answer.headers["www-authenticate"] == "Bearer"
    assert answer.json()["error"]["code"] == "invalid_api_key"
    assert KEY not in answer.text


@each_closed
@pytest.mark.parametrize(
    "headers",
    [
        {"authorization": f"Bearer {KEY}"},
        {"Authorization": f"bearer {KEY}"},
        {"AUTHORIZATION": f"BEARER   {KEY}"},
        {"authorization": KEY},
        {"x-api-key": KEY},
        {"X-API-Key": KEY},
        {"api-key": KEY},
        {"Api-Key": KEY},
        {"authorization": "Bearer ", "x-api-key": KEY},
        {"x-api-key": "", "api-key": KEY},
    ],
    ids=str,
)
def test_the_right_key_opens_wherever_a_client_puts_it(
    guarded: TestClient, method: str, path: str, headers: dict[str, str]
) -> None:
    assert status(guarded, method, path, headers) == 200


def test_a_key_in_the_query_string_is_not_looked_at(guarded: TestClient) -> None:
    assert status(guarded, "POST", f"/rerank?api-key={KEY}&key={KEY}") == 401


@pytest.mark.parametrize(
    "headers",
    [[(b"x-api-key", b"\xff\xfe\x00")], [(b"authorization", "Bearer ключ-ключ".encode())]],
    ids=["raw", "utf8"],
)
def test_a_key_of_strange_bytes_is_a_wrong_key(guarded: TestClient, headers: list[tuple[bytes, bytes]]) -> None:
    assert guarded.post("/rerank", content=BODY, headers=headers).status_code == 401


@pytest.mark.parametrize("table", [{}, {"api_key": KEY, "auth": {"mode": "off"}}], ids=["no key", "off"])
def test_where_no_key_is_asked_for_any_key_is_passed_over(make_client: MakeClient, table: dict[str, Any]) -> None:
    client = make_client(**table)
    for headers in ({}, {"authorization": "Bearer wrong-horse"}):
        assert status(client, "POST", "/rerank", headers) == 200


def test_without_a_key_nothing_is_ranked(make_client: MakeClient) -> None:
    reranker = Remembering()
    client = make_client(reranker=reranker, api_key=KEY)
    assert status(client, "POST", "/rerank") == 401
    assert reranker.requests == []


async def test_without_a_key_the_answer_comes_before_the_body_is_read(guarded_port: int) -> None:
    async with wire(guarded_port) as connection:
        await connection.send(b"POST /rerank HTTP/1.1\r\nhost: test\r\ncontent-length: 1000\r\n\r\n")
        assert (await connection.answer()).status == 401


@pytest.mark.parametrize(
    "target",
    [
        "/rerank",
        "//rerank",
        "/rerank/",
        "/./rerank",
        "/docs/../rerank",
        "/health/live/../../rerank",
        "/%72erank",
        "/%2frerank",
        "/rerank%00",
        "/rerank;x",
        "/rerank?/health/live",
        "/rerank%3F",
        "/static-offline-docs/../rerank",
        "/static-offline-docs/..%2frerank",
        "http://test/rerank",
        "http://localhost/health/live/../../rerank",
        "/v1//rerank",
        "/v1/%72erank",
    ],
)
@pytest.mark.parametrize("host", ["test", "test/health/live?", "", "user@test", "[::1]:x", "test:99999999"])
async def test_no_odd_path_or_host_gets_past_the_key(guarded_port: int, target: str, host: str) -> None:
    start = f"POST {target} HTTP/1.1\r\nhost: {host}\r\ncontent-length: {len(BODY)}\r\n\r\n"
    async with wire(guarded_port) as connection:
        await connection.send(start.encode() + BODY)
        answer = await connection.answer()
    assert answer.status in (307, 400, 401, 404, 405)
    assert b"relevance_score" not in answer.body


def variants(path: str, closed: str) -> Iterator[tuple[str, str, str]]:
    """Methods, targets and hosts that might make one route of the other."""
    targets = [
        f"{path}/..{closed}",
        f"{path}/../..{closed}",
        f"{path}/%2e%2e{closed}",
        f"{path}/%2E%2E/%2e%2e{closed}",
        f"{path}/..;{closed}",
        f"{path}/..%2f{closed[1:]}",
        f"{path}%2f..{closed}",
        f"{path}\\..{closed}",
        f"{path}?{closed}",
        f"{path}?/..{closed}",
        f"{path};{closed}",
        f"{path}%3f{closed}",
        f"{path}%23{closed}",
        f"{path}%00{closed}",
        f"{path}{closed}",
        f"/.{closed}",
        f"/{closed}",
        f"//{closed}",
        f"{closed}/",
        f"{closed}//",
        f"{closed}/.",
        f"{closed};x",
        f"{closed}?{path}",
        f"{closed}?",
        f"{closed}%20",
        f"{closed}%2e",
        f"{closed}%3f{path}",
        f"{closed}{path}",
        f"{closed}/..{path}",
        closed.upper(),
        closed.title(),
        closed.replace("/", "//"),
        closed.replace("/", "/./"),
        closed.replace("/", "%2f"),
        f"/%{ord(closed[1]):02x}{closed[2:]}",
        f"http://test{closed}",
        f"http://test{path}{closed}",
        f"http://test{path}/..{closed}",
        f"http://test{path}@x{closed}",
        f"http://localhost{path}?@test{closed}",
        f"//test{closed}",
    ]
    yield from (("POST", target, "test") for target in targets)
    hosts = [
        f"test{path}",
        f"test{path}?",
        f"test{path}#",
        f"test{path}/?x=",
        f"test?{path}",
        f"test#{path}",
        f"x@test{path}",
        f"test:80{path}",
        f"http://test{path}",
        f"[::1]{path}",
        f"test\\{path}",
        "localhost",
        "127.0.0.1:8000/?",
        "",
    ]
    yield from (("POST", closed, host) for host in hosts)
    yield from (("GET", closed, host) for host in hosts[:3])
    yield from ((method, closed, "test") for method in ("GET", "HEAD", "OPTIONS", "PUT", "TRACE", "post", "Get", "X"))


@pytest.mark.parametrize("path", sorted(OPEN))
async def test_no_way_of_writing_an_open_route_leads_to_a_closed_one(guarded_port: int, path: str) -> None:
    tried = 0
    for closed in ("/rerank", "/v1/models", "/admin/api/channels"):
        for method, target, host in variants(path, closed):
            start = f"{method} {target} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\ncontent-length: {len(BODY)}\r\n\r\n"
            async with wire(guarded_port) as connection:
                await connection.send(start.encode() + BODY)
                answer = await connection.until_closed(PATIENCE)
            assert not [word for word in INSIDE if word in answer], (method, target, host)
            tried += 1
    assert tried >= 3 * 60


async def test_what_is_looked_for_behind_closed_routes_is_there_with_a_key(guarded_port: int) -> None:
    answers = b""
    for start in ("POST /rerank", "GET /v1/models", "GET /admin/api/channels"):
        key = ADMIN_KEY if "admin" in start else KEY
        head = f"{start} HTTP/1.1\r\nhost: test\r\nx-api-key: {key}\r\nconnection: close\r\n"
        async with wire(guarded_port) as connection:
            await connection.send(f"{head}content-length: {len(BODY)}\r\n\r\n".encode() + BODY)
            answers += await connection.until_closed(PATIENCE)
    assert all(word in answers for word in INSIDE)


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.8.8", "::1", "localhost"])
def test_loopback_may_be_served_without_a_key(host: str) -> None:
    check_exposure(Settings.parse({"server": {"host": host}}))


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.0.7", "example.org", "localhost.example.org", ""])  # noqa: S104
def test_any_other_address_without_a_key_is_refused_in_words_that_help(host: str) -> None:
    with pytest.raises(BadSettings, match=r"`rerankd keys create NAME`.* RERANKD_API_KEY"):
        check_exposure(Settings.parse({"server": {"host": host}}))
    check_exposure(Settings.parse({"server": {"host": host}}), any_stored_key=True)


@pytest.mark.parametrize("mode", ["auto", "required"])
def test_any_address_may_be_served_with_a_key(mode: str) -> None:
    check_exposure(Settings.parse({"server": {"host": "::"}, "api_key": KEY, "auth": {"mode": mode}}))


def test_any_address_may_be_served_where_the_owner_says_that_no_key_is_needed() -> None:
    check_exposure(Settings.parse({"server": {"host": "::"}, "auth": {"mode": "off"}}))


def test_a_key_that_is_required_must_exist_on_loopback_too() -> None:
    with pytest.raises(BadSettings, match=r"auth\.mode is required.*`rerankd keys create NAME`"):
        check_exposure(Settings.parse({"auth": {"mode": "required"}}))
    check_exposure(Settings.parse({"auth": {"mode": "required"}}), any_stored_key=True)


@pytest.mark.parametrize("name", ["api_key", "admin_key", "pepper", "secret_key"])
@pytest.mark.parametrize("text", ["", " ", "short"])
def test_a_key_that_is_empty_or_short_is_no_setting(name: str, text: str) -> None:
    with pytest.raises(BadSettings, match=name):
        Settings.parse({name: text})


def test_a_key_may_have_any_characters(make_client: MakeClient) -> None:
    client = make_client(api_key="schlüssel-ß")
    headers = [(b"authorization", "Bearer schlüssel-ß".encode())]
    assert client.post("/rerank", content=BODY, headers=headers).status_code == 200


def test_a_right_key_counts_beside_an_authorization_of_another_kind(make_client: MakeClient) -> None:
    client = make_client(api_key="the-right-key")
    headers = {"authorization": "Basic dXNlcjpwYXNz", "x-api-key": "the-right-key"}
    assert client.get("/v1/models", headers=headers).status_code == 200
