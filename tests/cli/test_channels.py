"""`rerankd channels` against a configuration, an upstream that is there, and one that is not."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from rerankd.app import Application
from rerankd.settings import Settings, load_settings
from tests.cli.conftest import Run
from tests.server.live import serving_on_a_port

CONFIG = """
[[channels]]
name = "dead"
dialect = "cohere_v2"
base_url = "http://127.0.0.1:9"
models = {{ good = "rerank-v3.5" }}
priority = 10
allow_private = true

[[channels]]
name = "alive"
dialect = "jina"
base_url = "{url}/jina"
models = {{ good = "lexical" }}
allow_private = true
"""


@pytest.fixture
def upstream() -> Iterator[str]:
    """The URL of a server that ranks by words."""
    settings = Settings.parse({"models": [{"name": "lexical"}], "server": {"port": 0}})
    with Application(settings) as application, serving_on_a_port(application) as port:
        yield f"http://127.0.0.1:{port}"


@pytest.fixture(autouse=True)
def _configured(tmp_path: Path, upstream: str) -> None:
    (tmp_path / "rerankd.toml").write_text(CONFIG.format(url=upstream))


def test_without_a_server_the_list_says_that_nobody_was_asked(run: Run) -> None:
    outcome = run("channels", "list", "--url", "http://127.0.0.1:9")
    assert (outcome.status, outcome.err) == (0, "")
    for word in ("dead", "alive", "cohere_v2", "not asked", "The server is not running"):
        assert word in outcome.out


def test_a_channel_that_works_is_good_and_one_that_does_not_is_not(run: Run) -> None:
    good, bad = run("channels", "test", "alive"), run("channels", "test", "dead")
    assert (good.status, bad.status) == (0, 1)
    assert good.out.startswith("good  good: right order")
    assert bad.out.startswith("bad   good: The upstream could not be reached")
    assert json.loads(run("channels", "test", "alive", "--json").out)["good"]["right_order"] is True


def test_a_channel_that_is_not_there_is_named(run: Run) -> None:
    outcome = run("channels", "test", "other")
    assert outcome.status == 1
    assert "'other'; there are: dead, alive" in outcome.err


@pytest.mark.parametrize(("prefix", "dialect"), [("voyage", "voyage"), ("tei", "tei"), ("cohere", "cohere_v2")])
def test_the_format_of_an_upstream_is_found_and_what_is_printed_can_be_used(
    run: Run, upstream: str, tmp_path: Path, prefix: str, dialect: str
) -> None:
    target = tmp_path / "rerankd.toml"
    arguments = ("--model", "words=lexical", "--detect", "--allow-private", "--write", str(target))
    outcome = run("channels", "add", "new", f"{upstream}/{prefix}", *arguments)
    assert outcome.status == 0, outcome.err
    assert f"yes  {dialect}" in outcome.out
    (added,) = [channel for channel in load_settings(target).channels if channel.name == "new"]
    assert (added.dialect, added.models, added.allow_private) == (dialect, {"words": "lexical"}, True)
    assert run("channels", "test", "new").status == 0


def test_where_no_format_fits_the_evidence_is_shown(run: Run) -> None:
    outcome = run("channels", "add", "new", "http://127.0.0.1:9", "--model", "m", "--detect", "--allow-private")
    assert outcome.status == 1
    assert "could not be reached" in outcome.out
    assert "no format that is known" in outcome.out


def test_a_private_address_is_refused_unless_it_is_allowed(run: Run, upstream: str) -> None:
    outcome = run("channels", "add", "new", upstream, "--model", "m", "--detect")
    assert outcome.status == 1
    assert "allow_private" in outcome.out + outcome.err
