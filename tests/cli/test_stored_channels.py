"""`rerankd channels` and a running server: channels that are added to it, listed, tried and removed."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from rerankd.app import Application
from rerankd.books import Books
from rerankd.settings import Settings
from rerankd.store.channels import ChannelStore
from tests.cli.conftest import Run
from tests.server.live import serving_on_a_port

ADMIN_KEY, CANARY = "the-admins-key", "sk-canary-0123456789"


@pytest.fixture
def url(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A server that ranks by words and keeps channels; what is configured here says where it is."""
    settings = Settings.parse({"models": [{"name": "lexical"}], "server": {"port": 0}, "admin_key": ADMIN_KEY})
    store = ChannelStore(f"sqlite:///{tmp_path}/kept.db", "a random text, or so it is hoped: 0123456789")
    with Application(settings, books=Books(channels=store)) as application, serving_on_a_port(application) as port:
        (tmp_path / "rerankd.toml").write_text(f"[server]\nport = {port}\n")
        monkeypatch.setenv("RERANKD_ADMIN_KEY", ADMIN_KEY)
        monkeypatch.setenv("THEIR_KEY", CANARY)
        yield f"http://127.0.0.1:{port}"


def add(run: Run, url: str, *more: str, name: str = "new") -> tuple[int, str]:
    arguments = ("--model", "words=lexical", "--api-key-env", "THEIR_KEY", "--allow-private", "--store", *more)
    outcome = run("channels", "add", name, f"{url}/voyage", *arguments)
    assert CANARY not in outcome.out + outcome.err
    return outcome.status, outcome.out + outcome.err


def test_a_channel_is_added_listed_tried_and_removed(run: Run, url: str) -> None:
    status, said = add(run, url, "--detect")
    assert (status, "The server has the channel new now" in said) == (0, True), said
    (row,) = json.loads(run("channels", "list", "--json").out)
    assert (row["channel"], row["dialect"], row["model"], row["status"]) == ("new", "voyage", "words", "closed")
    assert run("channels", "test", "new").out.startswith("good  words: right order")
    assert run("channels", "remove", "new").status == 0
    assert json.loads(run("channels", "list", "--json").out) == []


def test_what_the_server_refuses_is_told_in_its_words(run: Run, url: str) -> None:
    add(run, url, "--dialect", "voyage")
    status, said = add(run, url, "--dialect", "voyage")
    assert (status, "There is a channel 'new' already" in said) == (1, True), said
    outcome = run("channels", "remove", "other")
    assert (outcome.status, "no channel 'other'" in outcome.err) == (1, True)


def test_another_server_can_be_named_and_one_that_is_not_there_is_said(run: Run, url: str) -> None:
    status, said = add(run, url, "--dialect", "voyage", "--server", "http://127.0.0.1:9")
    assert (status, "no server of rerankd at http://127.0.0.1:9" in said) == (1, True), said
    assert add(run, url, "--dialect", "voyage", "--server", url)[0] == 0


def test_a_key_that_is_not_set_is_not_stored_as_nothing(run: Run, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("THEIR_KEY")
    status, said = add(run, url, "--dialect", "voyage")
    assert (status, "THEIR_KEY is not set" in said) == (1, True), said
    assert json.loads(run("channels", "list", "--json").out) == []
