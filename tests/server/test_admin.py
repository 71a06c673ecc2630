"""/admin/api: channels that come, change and go while the server runs, and what nobody ever gets to see of them."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from rerankd.app import Application
from rerankd.books import Books
from rerankd.errors import BadSettings
from rerankd.server.http import create_app
from rerankd.settings import Settings
from rerankd.store.channels import ChannelStore
from tests.server.conftest import settings
from tests.server.live import serving_on_a_port

SECRET_KEY = "a random text, or so it is hoped: 0123456789"
ADMIN = {"authorization": "Bearer the-admins-key"}
CANARY = "sk-canary-0123456789"
UNREACHABLE = "http://127.0.0.1:9"
CHANNELS = "/admin/api/channels"
PAIR = {"query": "capital of France", "documents": ["pizza", "Paris is the capital of France"]}


class Server:
    """One that keeps its channels in `folder`; `restart` gives another with the same database."""

    def __init__(self, folder: Path, secret_key: str | None = SECRET_KEY, **table: Any) -> None:
        self.folder = folder
        self.application = Application(
            settings(**{"admin_key": "the-admins-key", **table}),
            books=Books(channels=ChannelStore(f"sqlite:///{folder / 'rerankd.db'}", secret_key)),
        )
        self.client = TestClient(create_app(self.application), raise_server_exceptions=False, headers=ADMIN)

    def rank(self, model: str) -> Any:
        return self.client.post("/v1/rerank", json={**PAIR, "model": model})

    def listed(self) -> dict[str, Any]:
        return {channel["name"]: channel for channel in self.client.get(CHANNELS).json()["channels"]}

    @property
    def kept(self) -> bytes:
        """All that is on the disk."""
        return b"".join(file.read_bytes() for file in self.folder.iterdir())


@contextmanager
def server(folder: Path, secret_key: str | None = SECRET_KEY, **table: Any) -> Iterator[Server]:
    here = Server(folder, secret_key, **table)
    with here.application, here.client:
        yield here
        assert here.client.portal is not None
        here.client.portal.call(here.application.client.close)


@pytest.fixture
def here(tmp_path: Path) -> Iterator[Server]:
    with server(tmp_path) as running:
        yield running


@pytest.fixture(scope="module")
def upstream() -> Iterator[str]:
    """The URL of a server that ranks by words."""
    with Application(settings(server={"port": 0})) as application, serving_on_a_port(application) as port:
        yield f"http://127.0.0.1:{port}/jina"


def body(**more: Any) -> dict[str, Any]:
    return {
        "name": "new",
        "dialect": "jina",
        "base_url": UNREACHABLE,
        "models": {"far": "lexical"},
        "allow_private": True,
        "api_keys": [CANARY],
        **more,
    }


def without(body: dict[str, Any], *names: str) -> dict[str, Any]:
    return {name: value for name, value in body.items() if name not in names}


def test_a_channel_serves_from_the_moment_it_is_added(here: Server, upstream: str) -> None:
    assert here.rank("far").status_code == 404
    answer = here.client.post(CHANNELS, json=body(base_url=upstream))
    assert (answer.status_code, answer.json()["origin"], answer.json()["keys"]) == (201, "store", 1)
    ranked = here.rank("far")
    assert (ranked.status_code, ranked.headers["x-rerankd-channel"]) == (200, "new")
    assert [result["index"] for result in ranked.json()["results"]] == [1, 0]
    assert "far" in [model["id"] for model in here.client.get("/v1/models").json()["data"]]
    assert here.client.get("/v1/models/far").status_code == 200
    assert here.client.get("/health/ready").json()["models"] == {"lexical": True}


def test_a_first_channel_does_not_take_the_place_of_the_default_model(here: Server) -> None:
    before = here.client.get("/info").json()["model_id"]
    here.client.post(CHANNELS, json=body())
    assert here.client.get("/info").json()["model_id"] == before
    with server(here.folder, defaults={"model": None}) as again:
        assert again.client.post("/v1/rerank", json=PAIR).json()["model"] == "lexical"


def test_it_is_there_after_a_restart_and_has_its_key(here: Server, upstream: str) -> None:
    here.client.post(CHANNELS, json=body(base_url=upstream, headers={"x-more": CANARY}, priority=4))
    before = here.listed()["new"]
    with server(here.folder) as again:
        assert without(again.listed()["new"], "models") == without(before, "models")
        assert again.rank("far").status_code == 200
        spec = again.application.channels["new"]
        assert ([key.reveal() for key in spec.keys], spec.headers) == ([CANARY], {"x-more": CANARY})


def test_nothing_is_written_before_a_channel_is_stored(here: Server) -> None:
    here.listed()
    here.client.post(CHANNELS, json=body(dialect="none"))
    here.client.delete(f"{CHANNELS}/new")
    assert list(here.folder.iterdir()) == []


def test_a_removed_channel_is_gone_at_once_and_for_good(here: Server, upstream: str) -> None:
    here.client.post(CHANNELS, json=body(base_url=upstream))
    assert here.client.delete(f"{CHANNELS}/new").status_code == 204
    assert here.rank("far").status_code == 404
    assert here.client.delete(f"{CHANNELS}/new").status_code == 404
    with server(here.folder) as again:
        assert again.listed() == {}


def keys(here: Server) -> list[str]:
    return [key.reveal() for key in here.application.channels["new"].keys]


def test_a_replaced_channel_keeps_its_secrets_unless_others_are_given(here: Server) -> None:
    given = body(headers={"x-more": "1"}, proxy="http://127.0.0.1:8")
    here.client.post(CHANNELS, json=given)
    same = without(given, "name", "api_keys", "headers", "proxy")
    answer = here.client.put(f"{CHANNELS}/new", json={**same, "weight": 2.0, "base_url": f"{UNREACHABLE}/v1"})
    assert (answer.status_code, answer.json()["weight"]) == (200, 2.0)
    spec = here.application.channels["new"]
    assert (keys(here), spec.headers, spec.proxy) == ([CANARY], {"x-more": "1"}, "http://127.0.0.1:8")
    here.client.put(f"{CHANNELS}/new", json={**same, "api_keys": ["sk-another"], "headers": {}, "proxy": None})
    spec = here.application.channels["new"]
    assert (keys(here), spec.headers, spec.proxy) == (["sk-another"], {}, None)
    here.client.put(f"{CHANNELS}/new", json={**same, "api_keys": []})
    assert keys(here) == []
    with server(here.folder) as again:
        assert again.application.channels["new"] == here.application.channels["new"]


@pytest.mark.parametrize("host", ["http://127.0.0.2:9", "http://127.0.0.1:10", "https://127.0.0.1:9"])
def test_secrets_never_follow_to_another_host(here: Server, host: str) -> None:
    given = body(headers={"x-more": "1"}, proxy="http://127.0.0.1:8")
    here.client.post(CHANNELS, json=given)
    moved = {**without(given, "name", "api_keys", "headers", "proxy"), "base_url": host}
    assert here.client.put(f"{CHANNELS}/new", json=moved).json()["keys"] == 0
    spec = here.application.channels["new"]
    assert (spec.keys, spec.headers, spec.proxy) == ((), {}, None)
    with server(here.folder) as again:
        assert again.application.channels["new"].keys == ()


def test_what_an_old_channel_answered_is_not_taken_for_the_new_ones(here: Server, upstream: str) -> None:
    here.client.post(CHANNELS, json=body(base_url=upstream))
    here.rank("far")
    here.client.put(f"{CHANNELS}/new", json=without(body(), "name"))
    assert here.rank("far").status_code == 502
    here.client.delete(f"{CHANNELS}/new")
    here.client.post(CHANNELS, json=body())
    assert here.rank("far").status_code == 502


def test_what_other_channels_have_learnt_survives_a_change(here: Server, upstream: str) -> None:
    here.client.post(CHANNELS, json=body(base_url=upstream))
    here.client.post(CHANNELS, json=body(name="dead", models={"dead": "m"}))
    here.rank("far")
    here.rank("dead")
    before = here.listed()
    here.client.put(f"{CHANNELS}/new", json=without(body(), "name"))
    after = here.listed()
    assert after["dead"] == before["dead"]
    assert after["dead"]["models"]["dead"]["failures"] > 0
    assert (before["new"]["models"]["far"]["calls"], after["new"]["models"]["far"]["calls"]) == (1, 0)
    assert here.rank("lexical").status_code == 200


FILE = [{"name": "new", "dialect": "jina", "base_url": UNREACHABLE, "models": {"filed": "m"}, "allow_private": True}]


def test_a_configured_channel_is_read_and_not_written(tmp_path: Path) -> None:
    with server(tmp_path, channels=FILE) as here:
        assert here.listed()["new"]["origin"] == "file"
        for answer in (
            here.client.post(CHANNELS, json=body()),
            here.client.put(f"{CHANNELS}/new", json=without(body(), "name")),
            here.client.delete(f"{CHANNELS}/new"),
        ):
            assert answer.status_code == 409
            assert "'new' is configured in rerankd.toml" in answer.json()["message"]
    assert list(tmp_path.iterdir()) == []


def test_where_both_have_a_name_the_file_wins_and_the_log_says_so(
    here: Server, caplog: pytest.LogCaptureFixture
) -> None:
    here.client.post(CHANNELS, json=body())
    with server(here.folder, "another key, which opens nothing: 0123", channels=FILE) as again:
        assert list(again.listed()["new"]["models"]) == ["filed"]
    assert "new is configured" in caplog.text
    with server(here.folder) as again:
        assert list(again.listed()["new"]["models"]) == ["far"]


def test_a_name_is_taken_once(here: Server) -> None:
    here.client.post(CHANNELS, json=body())
    answer = here.client.post(CHANNELS, json=body(models={"other": "m"}))
    assert (answer.status_code, answer.json()["error"]["code"]) == (409, "conflict")
    assert list(here.listed()["new"]["models"]) == ["far"]


@pytest.mark.parametrize("name", ["jina-reranker-v3", "two-steps"])
def test_a_model_cannot_have_the_name_of_an_alias_or_a_cascade(tmp_path: Path, name: str) -> None:
    cascades = [{"name": "two-steps", "first": "lexical", "then": "lexical"}]
    with server(tmp_path, cascades=cascades) as here:
        answer = here.client.post(CHANNELS, json=body(models={name: "m"}))
        assert (answer.status_code, here.listed()) == (409, {})


WRONG = [
    ({"surprise": 1}, 422, "surprise"),
    ({"dialect": "klingon"}, 400, "klingon"),
    ({"name": "a/b"}, 400, "`name`"),
    ({"name": "a" * 65}, 400, "`name`"),
    ({"base_url": "ftp://x"}, 400, "`base_url`"),
    ({"base_url": "http://user:pw@127.0.0.1"}, 400, "user's name"),
    ({"base_url": "http://[1"}, 400, "cannot be read"),
    ({"base_url": "http://169.254.169.254"}, 400, "credentials"),
    ({"allow_private": False}, 400, "allow_private"),
    ({"models": {}}, 400, "`models`"),
    ({"models": {"a b": "m"}}, 400, "`models`"),
    ({"models": {"a": ""}}, 400, "models"),
    ({"dialect": "deepinfra", "models": {"a": "../b"}}, 400, "path"),
    ({"api_keys": ["with blank"]}, 400, "api_keys[0]"),
    ({"api_keys": CANARY}, 400, "`api_keys`"),
    ({"api_keys": ["k"] * 101}, 400, "`api_keys`"),
    ({"headers": {"host": CANARY}}, 400, "host"),
    ({"headers": {"x": "a\nb"}}, 400, "'x'"),
    ({"priority": 1001}, 400, "`priority`"),
    ({"weight": 0}, 400, "`weight`"),
    ({"timeout": 0}, 400, "`timeout`"),
    ({"max_documents": 0}, 400, "`max_documents`"),
    ({"max_tokens": 0}, 400, "`max_tokens`"),
    ({"score": CANARY}, 400, "`score`"),
]


@pytest.mark.parametrize(("wrong", "status", "named"), WRONG)
def test_what_cannot_be_a_channel_is_refused_by_name(
    here: Server, wrong: dict[str, Any], status: int, named: str
) -> None:
    answer = here.client.post(CHANNELS, json=body(**wrong))
    assert (answer.status_code, named in answer.json()["message"]) == (status, True), answer.text
    assert CANARY not in answer.text
    assert (here.listed(), list(here.folder.iterdir())) == ({}, [])


@pytest.mark.parametrize("name", ["name", "dialect", "base_url", "models"])
def test_what_is_needed_is_said(here: Server, name: str) -> None:
    answer = here.client.post(CHANNELS, json=without(body(), name))
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, name)


def test_a_body_is_json_and_says_so_and_is_not_too_large(here: Server) -> None:
    assert here.client.post(CHANNELS, content=b"{}", headers={"content-type": "text/plain"}).status_code == 415
    assert here.client.post(CHANNELS, content=b"{").status_code == 415
    headers = {"content-type": "application/json; charset=utf-8"}
    assert here.client.post(CHANNELS, content=b"{", headers=headers).status_code == 400
    assert here.client.post(CHANNELS, content=b" " * 2**19, headers=headers).status_code == 413


def test_without_a_key_to_seal_with_no_secret_is_taken(tmp_path: Path) -> None:
    with server(tmp_path, None) as here:
        for secret in ({}, {"api_keys": [], "headers": {"x": "y"}}, {"api_keys": [], "proxy": "http://127.0.0.1:8"}):
            answer = here.client.post(CHANNELS, json=body(**secret))
            assert (answer.status_code, "RERANKD_SECRET_KEY" in answer.json()["message"]) == (403, True)
        assert list(tmp_path.iterdir()) == []
        assert here.client.post(CHANNELS, json=without(body(), "api_keys")).status_code == 201


@pytest.mark.parametrize("key", [None, "another key, which opens nothing: 0123"])
def test_a_start_with_the_wrong_key_names_the_channel_and_shows_nothing(here: Server, key: str | None) -> None:
    here.client.post(CHANNELS, json=body())
    with pytest.raises(BadSettings, match=r"channels\.new: ") as caught:
        Server(here.folder, key)
    assert CANARY not in caught.value.message


def test_a_server_that_keeps_nothing_says_so(make_client: Any) -> None:
    client = make_client(admin_key="the-admins-key")
    assert client.post(CHANNELS, json=body(), headers=ADMIN).status_code == 409


def test_no_secret_is_ever_seen(here: Server, upstream: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    secrets = {"api_keys": [CANARY], "headers": {"x-more": CANARY}, "proxy": f"http://u:{CANARY}@127.0.0.1:9"}
    there = f"{CHANNELS}/new"
    answers = [
        here.client.post(CHANNELS, json=body(**secrets)),
        here.client.post(CHANNELS, json=body(**secrets)),
        here.rank("far"),
        here.client.post(f"{there}/test"),
        here.client.put(there, json=without(body(**secrets), "name")),
        here.client.put(there, json=without(body(**secrets, weight=-1), "name")),
        here.client.put(there, json=without(body(dialect="klingon", **secrets), "name")),
        here.client.post(f"{CHANNELS}/detect", json={"base_url": upstream, "model": "m", "api_key": CANARY}),
        here.client.get(CHANNELS),
        here.client.get("/v1/models"),
        here.client.get("/openapi.json"),
    ]
    application = here.application
    shown = [answer.text + str(answer.headers) for answer in answers]
    shown += [caplog.text, repr(application.channels), repr(vars(application)), repr(vars(application.stored))]
    assert [text for text in shown if CANARY in text] == []
    assert CANARY.encode() not in here.kept
    assert SECRET_KEY.encode() not in here.kept
    assert SECRET_KEY not in repr(Settings.parse({"secret_key": SECRET_KEY})) + "".join(shown)
    assert here.client.delete(there).status_code == 204


def test_an_upstreams_format_is_found(here: Server, upstream: str) -> None:
    asked = {"base_url": upstream.removesuffix("jina") + "voyage", "model": "lexical", "allow_private": True}
    answer = here.client.post(f"{CHANNELS}/detect", json=asked)
    assert (answer.status_code, answer.json()["dialect"]) == (200, "voyage")
    assert answer.json()["evidence"][-1]["verdict"]["right_order"] is True


@pytest.mark.parametrize(
    "wrong",
    [{"allow_private": False}, {"base_url": "http://169.254.169.254"}, {"base_url": "http://2852039166"}, {"more": 1}],
)
def test_the_guard_of_addresses_holds_for_a_look_too(here: Server, wrong: dict[str, Any]) -> None:
    asked = {"base_url": UNREACHABLE, "model": "m", "allow_private": True, **wrong}
    assert here.client.post(f"{CHANNELS}/detect", json=asked).status_code in (400, 422)


def test_a_stored_channel_can_be_tried(here: Server, upstream: str) -> None:
    here.client.post(CHANNELS, json=body(base_url=upstream))
    assert here.client.post(f"{CHANNELS}/new/test").json()["models"]["far"]["right_order"] is True
    assert here.client.post(f"{CHANNELS}/other/test").status_code == 404


ALL = [
    ("GET", CHANNELS),
    ("POST", CHANNELS),
    ("POST", f"{CHANNELS}/detect"),
    ("PUT", f"{CHANNELS}/new"),
    ("DELETE", f"{CHANNELS}/new"),
    ("POST", f"{CHANNELS}/new/test"),
]


@pytest.mark.parametrize(("method", "path"), ALL)
def test_everything_needs_the_admins_key(tmp_path: Path, method: str, path: str) -> None:
    with server(tmp_path, api_key="a-key-for-ranking") as here:
        for key, status in (("", 401), ("Bearer wrong", 401), ("Bearer a-key-for-ranking", 403)):
            answer = here.client.request(method, path, headers={"authorization": key}, json=body())
            assert answer.status_code == status, key


def test_without_an_admin_key_it_is_open_where_only_this_machine_can_ask(tmp_path: Path) -> None:
    with server(tmp_path, admin_key=None) as here:
        del here.client.headers["authorization"]
        for name in ("localhost", "127.0.0.1", "[::1]:8000"):
            assert here.client.get(CHANNELS, headers={"host": name}).status_code == 200
        for name in ("evil.example", "127.0.0.1.evil.example", "10.0.0.1"):
            assert here.client.get(CHANNELS, headers={"host": name}).status_code == 403
    exposed: dict[str, Any] = {"server": {"host": "0.0.0.0"}, "auth": {"mode": "off"}}  # noqa: S104
    with server(tmp_path, admin_key=None, **exposed) as here:
        assert here.client.get(CHANNELS, headers={"host": "localhost"}).status_code in (401, 403)


def test_the_document_says_what_a_channel_is(here: Server) -> None:
    paths = here.client.get("/openapi.json").json()["paths"]
    assert {(method.upper(), path) for path in paths for method in paths[path] if path.startswith(CHANNELS)} == {
        (method, path.replace("/new", "/{name}")) for method, path in ALL
    }
    described = paths[CHANNELS]["post"]["requestBody"]["content"]["application/json"]["schema"]
    assert described["properties"]["api_keys"]["anyOf" if "anyOf" in described["properties"]["api_keys"] else "items"]
    assert set(described["required"]) == {"name", "dialect", "base_url", "models"}
