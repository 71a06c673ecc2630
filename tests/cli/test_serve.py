"""What `rerankd serve` makes of its arguments, and what it says; tests/server has it serve."""

from __future__ import annotations

import gc
import json
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from rerankd.app import Application
from rerankd.cli.serve import YOUNG, Started, _announce, _curl, _overrides, _sparing_what_stays, model_settings
from rerankd.dialects.fields import EXAMPLE
from rerankd.dialects.superset import Superset
from rerankd.errors import BadSettings
from rerankd.secret import Secret
from rerankd.settings import ModelSettings, Settings, load_settings
from tests.cli.conftest import Run

URL = "http://127.0.0.1:8000"


@pytest.mark.parametrize(
    ("text", "name", "source"),
    [
        ("lexical", "lexical", "lexical"),
        ("fast=lexical", "fast", "lexical"),
        ("BAAI/bge-reranker-v2-m3", "BAAI/bge-reranker-v2-m3", "BAAI/bge-reranker-v2-m3"),
        ("modelscope:BAAI/bge", "modelscope:BAAI/bge", "modelscope:BAAI/bge"),
        ("bge=modelscope:BAAI/bge", "bge", "modelscope:BAAI/bge"),
        ("/models/bge", "bge", "/models/bge"),
        ("mine=/models/a=b", "mine", "/models/a=b"),
    ],
)
def test_a_model_is_a_name_and_a_source_or_a_source_alone(text: str, name: str, source: str) -> None:
    assert model_settings(text) == ModelSettings(name=name, source=source)


def test_a_model_takes_the_device_and_the_number_format_with_it() -> None:
    model = model_settings("lexical", "cuda:1", "float16")
    assert (model.device, model.dtype) == ("cuda:1", "float16")


@pytest.mark.parametrize("text", ["a b=lexical", "é=lexical"])
def test_a_name_that_no_header_can_carry_is_refused(text: str) -> None:
    with pytest.raises(BadSettings, match="name"):
        model_settings(text)


@pytest.mark.parametrize("text", ["", "=", "=lexical", "x="])
def test_half_a_model_is_refused(text: str) -> None:
    with pytest.raises(BadSettings, match="neither NAME=SOURCE nor a source"):
        model_settings(text)


def test_models_of_the_command_line_do_not_fall_over_a_default_of_the_file(tmp_path: Path) -> None:
    file = tmp_path / "rerankd.toml"
    file.write_text('[[models]]\nname = "a"\nsource = "lexical"\n[defaults]\nmodel = "a"\n')
    settings = load_settings(file, _overrides(["lexical"], None, None, "auto", "auto"))
    assert [model.name for model in settings.models] == ["lexical"]


@pytest.mark.parametrize(
    ("arguments", "overrides"),
    [
        ((None, None, None, "auto", "auto"), {}),
        (([], None, None, "auto", "auto"), {}),
        ((None, "::1", None, "auto", "auto"), {"server": {"host": "::1"}}),
        ((None, None, 0, "auto", "auto"), {"server": {"port": 0}}),
        (
            (["a=lexical", "builtin"], None, None, "cpu", "float32"),
            {
                "models": [
                    {"name": "a", "source": "lexical", "device": "cpu", "dtype": "float32"},
                    {"name": "builtin", "source": "builtin", "device": "cpu", "dtype": "float32"},
                ],
                "defaults": {"model": None},
            },
        ),
        (
            (None, None, None, "cpu", "auto"),
            {"models": [{"name": "builtin", "source": "builtin", "device": "cpu", "dtype": "auto"}]},
        ),
    ],
)
def test_the_command_line_sets_what_it_says_and_nothing_else(arguments: Any, overrides: dict[str, Any]) -> None:
    assert _overrides(*arguments) == overrides


def test_models_of_the_command_line_replace_those_of_the_file() -> None:
    Path("rerankd.toml").write_text('[server]\nhost = "localhost"\n[[models]]\nname = "builtin"\n')
    settings = load_settings(None, _overrides(["a=lexical"], None, 9000, "auto", "auto"))
    assert [model.name for model in settings.models] == ["a"]
    assert (settings.server.host, settings.server.port) == ("localhost", 9000)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--model", "a b=lexical"], "name"),
        (["--model", "lexical", "--model", "lexical"], "'lexical' is given twice"),
        (["--model", "lexical", "--port", "65536"], "server.port"),
        (["--model", "lexical", "--device", "toaster"], "device"),
        (["--model", "lexical", "--dtype", "int8"], "dtype"),
        (["--model", "lexical", "--host", "0.0.0.0"], "RERANKD_API_KEY"),  # noqa: S104
        (["--model", "no such model"], "no such model"),
        (["--model", "./no/such/folder", "--port", "0"], "./no/such/folder"),
    ],
)
def test_what_cannot_be_served_is_said_in_one_line_with_status_1(run: Run, arguments: list[str], says: str) -> None:
    outcome = run("serve", *arguments)
    assert (outcome.status, outcome.out) == (1, "")
    assert outcome.err.startswith("error: ")
    assert outcome.err.count("\n") == 1
    assert says in outcome.err


@pytest.fixture
def application() -> Iterator[Application]:
    models = [{"name": "fast", "source": "lexical", "aliases": ["quick"]}]
    with Application(Settings.parse({"models": models})) as application:
        yield application


def test_it_says_what_is_served_where_and_how_to_try_it(
    application: Application, capsys: pytest.CaptureFixture[str]
) -> None:
    _announce(Started(application, URL, needs_key=False, admin_key=None), as_json=False)
    first, *rest = capsys.readouterr().out.splitlines()
    assert first == f"Serving fast (lexical, cpu, float64) at {URL}"
    assert rest == ["Try it:", _curl(Started(application, URL, needs_key=False, admin_key=None))]


def test_the_admins_key_is_shown_where_this_start_has_made_it(
    application: Application, capsys: pytest.CaptureFixture[str]
) -> None:
    started = Started(application, URL, needs_key=False, admin_key=Secret("sk-rr-the-admins"))
    _announce(started, as_json=False)
    assert capsys.readouterr().out.endswith("makes another):\nsk-rr-the-admins\n")
    _announce(started, as_json=True)
    assert json.loads(capsys.readouterr().out)["admin_key"] == "sk-rr-the-admins"
    assert "sk-rr-the-admins" not in repr(started)


def test_as_json_it_is_one_line_for_a_program(application: Application, capsys: pytest.CaptureFixture[str]) -> None:
    _announce(Started(application, URL, needs_key=False, admin_key=None), as_json=True)
    out = capsys.readouterr().out
    assert out.count("\n") == 1
    assert json.loads(out) == {
        "url": URL,
        "models": [{"name": "fast", "family": "lexical", "device": "cpu", "dtype": "float64"}],
        "aliases": {"quick": "fast"},
    }


def test_the_line_to_try_is_a_command_that_a_shell_reads_as_one_request(application: Application) -> None:
    started = Started(application, URL, needs_key=False, admin_key=None)
    command, url, *options = shlex.split(_curl(started))
    assert (command, url) == ("curl", f"{URL}/v1/rerank")
    assert options[:3] == ["-H", "Content-Type: application/json", "-d"]
    assert Superset().parse_request(options[3].encode()).query == EXAMPLE["query"]


@pytest.mark.parametrize(
    ("table", "variable"), [({"api_key": "correct-horse-battery"}, "$RERANKD_API_KEY"), ({}, "$KEY")]
)
def test_the_line_to_try_names_the_variable_of_the_key_and_not_the_key(table: dict[str, Any], variable: str) -> None:
    with Application(Settings.parse({"models": [{"name": "lexical"}], **table})) as application:
        line = _curl(Started(application, URL, needs_key=True, admin_key=None))
    assert f"Authorization: Bearer {variable}" in line
    assert "correct-horse" not in line


def test_what_is_there_when_serving_begins_is_not_searched_for_garbage_and_everything_is_put_back() -> None:
    before, frozen = gc.get_threshold(), gc.get_freeze_count()
    with _sparing_what_stays():
        assert gc.get_freeze_count() > frozen
        assert gc.get_threshold()[0] == YOUNG
    assert (gc.get_threshold(), gc.get_freeze_count()) == (before, 0)
