from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from rerankd.version import __version__
from tests.cli.conftest import Run


def test_the_version_is_told(run: Run) -> None:
    outcome = run("--version")
    assert (outcome.status, outcome.out) == (0, f"rerankd {__version__}\n")


@pytest.mark.parametrize("arguments", [["-h"], ["--help"]])
def test_help_names_every_command(run: Run, arguments: list[str]) -> None:
    outcome = run(*arguments)
    assert outcome.status == 0
    for command in ("serve", "rank", "doctor", "models"):
        assert command in outcome.out


@pytest.mark.parametrize("command", [["serve"], ["rank"], ["doctor"], ["models", "list"]])
def test_each_command_explains_itself_and_can_speak_json(run: Run, command: list[str]) -> None:
    outcome = run(*command, "--help")
    assert outcome.status == 0
    assert "--json" in outcome.out
    assert "--config" in outcome.out


def test_without_a_command_help_is_shown(run: Run) -> None:
    assert "serve" in run().out


@pytest.mark.parametrize("arguments", [["nonsense"], ["rank"], ["rank", "q", "--nonsense"], ["rank", "q", "-n", "x"]])
def test_a_command_line_that_makes_no_sense_has_status_2(run: Run, arguments: list[str]) -> None:
    outcome = run(*arguments)
    assert outcome.status == 2
    assert outcome.out == ""
    assert "Usage:" in outcome.err


@pytest.mark.parametrize(
    "arguments",
    [
        ["serve", "--config", "missing.toml"],
        ["rank", "q", "missing.txt"],
        ["models", "list", "--config", "missing.toml"],
        ["rank", "q", "--config", "missing.toml", "-m", "lexical"],
    ],
)
def test_what_the_user_can_mend_is_one_line_on_standard_error_with_status_1(run: Run, arguments: list[str]) -> None:
    outcome = run(*arguments, stdin=b"a\n")
    assert outcome.status == 1
    assert outcome.out == ""
    assert outcome.err.startswith("error: ")
    assert outcome.err.count("\n") == 1
    assert "missing." in outcome.err


def test_an_error_is_one_line_however_long_it_is_and_shows_brackets_as_they_are(run: Run) -> None:
    name = "[bold]" + "x" * 230 + "[/red]"
    outcome = run("rank", "q", name)
    assert outcome.err == f"error: {name} cannot be read: No such file or directory.\n"


@pytest.mark.parametrize("as_json", [[], ["--json"]], ids=["in words", "as JSON"])
def test_a_reader_that_goes_away_early_makes_no_noise(tmp_path: Path, as_json: list[str]) -> None:
    documents = tmp_path / "documents.txt"
    documents.write_text(("some words to rank" * 10 + "\n") * 1000)  # more than a pipe holds
    command = [sys.executable, "-c", "from rerankd.cli.main import main; main()", "rank", "words", str(documents)]
    with subprocess.Popen(
        [*command, "-m", "lexical", *as_json], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.read(10) != b""
        process.stdout.close()
        assert process.stderr.read() == b""
