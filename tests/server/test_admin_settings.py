"""/admin/api/settings: what each setting is and who said so, and no secret."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from rerankd.server.admin_settings import shown, without_password
from rerankd.settings import Settings, load_settings, names, sources
from tests.server.conftest import MakeClient
from tests.server.keeping import keeping

CANARY = "canary-0123456789-0123456789-0123456789"
FILE = f"""
secret_key = "{CANARY}"
[server]
port = 8001
database = "postgresql://me:{CANARY}@db.example:5432/rerankd?password={CANARY}"
redis = "rediss://:{CANARY}@cache.example:6379/0"
[telemetry]
otlp_endpoint = "http://me:{CANARY}@traces.example"
[prices."m"]
per_million_tokens = 0.02
[[channels]]
name = "far"
dialect = "jina"
base_url = "https://api.example.com/?key={CANARY}"
proxy = "http://me:{CANARY}@proxy.example:3128"
headers = {{ "x-secret" = "{CANARY}" }}
models = {{ "m" = "theirs" }}
"""


@pytest.fixture
def settings_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, dict[str, Any]]:
    """Out of a file, the environment and the command line."""
    file = tmp_path / "rerankd.toml"
    file.write_text(FILE)
    monkeypatch.setenv("RERANKD_PEPPER", CANARY)
    monkeypatch.setenv("RERANKD_SERVER_PORT", "8002")
    monkeypatch.setenv("RERANKD_SERVER_DEADLINE", "5")
    overrides = {"server": {"deadline": 7.0, "host": "127.0.0.2"}}
    settings = load_settings(file, overrides)
    listed = list(shown(settings, sources(file, overrides)))
    return {one.name: {"value": one.value, "default": one.default, "source": one.source} for one in listed}


def test_each_has_its_value_its_default_and_its_source(settings_of: dict[str, dict[str, Any]]) -> None:
    assert list(settings_of) == names()
    for name, value, default, source in (
        ("server.max_body", 32 * 2**20, 32 * 2**20, "default"),
        ("server.port", 8002, 8000, "environment"),
        ("server.deadline", 7.0, 60.0, "command line"),
        ("server.host", "127.0.0.2", "127.0.0.1", "command line"),
        ("server.spool", None, None, "default"),
        ("models", [], [], "default"),
        ("prices", {"m": {"per_million_tokens": "0.02", "per_thousand_searches": "0"}}, {}, "file"),
        ("api_key", None, None, "default"),
        ("secret_key", "***", None, "file"),
        ("pepper", "***", None, "environment"),
    ):
        assert settings_of[name] == {"value": value, "default": default, "source": source}, name


def test_no_secret_is_shown_and_all_else_is(settings_of: dict[str, dict[str, Any]]) -> None:
    assert CANARY not in json.dumps(settings_of)
    assert settings_of["server.database"]["value"] == "postgresql://me:***@db.example:5432/rerankd?***"
    assert settings_of["server.database"]["default"] == "sqlite:///rerankd.db"
    assert settings_of["server.redis"]["value"] == "rediss://:***@cache.example:6379/0"
    assert settings_of["telemetry.otlp_endpoint"]["value"] == "http://me:***@traces.example"
    (channel,) = settings_of["channels"]["value"]
    assert channel["proxy"] == "http://me:***@proxy.example:3128"
    assert channel["base_url"] == "https://api.example.com/?***"
    assert channel["headers"] == {"x-secret": "***"}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("redis://host:6379/0", "redis://host:6379/0"),
        ("redis://a:b@c@host", "redis://a:***@host"),
        ("redis://:p%40ss@host", "redis://:***@host"),
        ("unix:///run/redis.sock?password=p", "unix:///run/redis.sock?***"),
        ("http://name@host/path", "http://name@host/path"),
        ("http://host/a@b:c", "http://host/a@b:c"),
        ("no URL at all: a:b@c?d", "no URL at all: a:b@c?d"),
    ],
)
def test_of_a_url_everything_but_what_may_be_a_password(text: str, expected: str) -> None:
    assert without_password(text) == expected


def test_they_are_told_to_the_admin(tmp_path: Path) -> None:
    with keeping(tmp_path, server={"port": 8123}) as here:
        here.application.sources = {"server.port": "command line"}
        listed = {one["name"]: one for one in here.get("/settings")["settings"]}
        assert listed["server.port"] == {
            "name": "server.port",
            "value": 8123,
            "default": 8000,
            "source": "command line",
            "description": "The port to listen on; 0 lets the system choose one.",
        }
        assert listed["admin_key"]["value"] == "***"
        assert all(one["description"] or one["name"] in ("models", "channels", "cascades") for one in listed.values())


def test_sources_of_nothing_are_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert sources() == {}
    assert {one.source for one in shown(Settings(), {})} == {"default"}


def test_a_server_without_a_database_tells_them_too(make_client: MakeClient) -> None:
    client = make_client(admin_key="the-admins-key")
    assert client.get("/admin/api/settings", headers={"x-api-key": "the-admins-key"}).status_code == 200
