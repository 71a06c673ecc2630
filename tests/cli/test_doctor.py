from __future__ import annotations

import json
from pathlib import Path

import pytest

from rerankd import pipeline
from tests.cli.conftest import Run

LEXICAL = '[[models]]\nname = "fast"\nsource = "lexical"\n'


def written(text: str) -> str:
    Path("some.toml").write_text(text)
    return "some.toml"


def findings(run: Run, *arguments: str) -> tuple[int, dict[str, tuple[str, str]]]:
    outcome = run("doctor", "--json", *arguments)
    return outcome.status, {row["what"]: (row["state"], row["detail"]) for row in json.loads(outcome.out)}


def test_a_sound_configuration_is_found_to_be_one(run: Run) -> None:
    status, found = findings(run, "--config", written(LEXICAL))
    assert status == 0
    assert "bad" not in {state for state, _ in found.values()}
    assert "some.toml" in found["configuration"][1]
    assert found["model"][1].startswith("fast: lexical")


def test_the_pipeline_that_is_shown_is_the_pipeline_that_is_built(run: Run) -> None:
    outcome = run("doctor", "--json", "--config", written(LEXICAL))
    shown = [row["detail"] for row in json.loads(outcome.out) if row["what"] == "pipeline"]
    assert shown == list(pipeline.order())


def test_in_words_there_is_a_line_for_each_finding_and_no_colour_without_a_terminal(run: Run) -> None:
    as_words = run("doctor", "--config", written(LEXICAL))
    as_json = json.loads(run("doctor", "--config", "some.toml", "--json").out)
    assert (as_words.status, as_words.err) == (0, "")
    assert "\x1b" not in as_words.out
    lines = as_words.out.splitlines()
    assert len(lines) == len(as_json)
    for line, finding in zip(lines, as_json, strict=True):
        assert line.split()[:2] == [finding["state"], finding["what"]]
        assert line.endswith(finding["detail"])


@pytest.mark.parametrize(
    ("config", "says"),
    [
        ("nonsense = 1", "nonsense: is no setting"),
        ("[server", "is not TOML"),
        ('[server]\nport = "many"', "server.port"),
    ],
)
def test_a_bad_configuration_is_named_and_the_status_is_1(run: Run, config: str, says: str) -> None:
    status, found = findings(run, "--config", written(config))
    state, detail = found["configuration"]
    assert (status, state) == (1, "bad")
    assert says in detail
    in_words = run("doctor", "--config", "some.toml")
    assert in_words.status == 1
    assert says in in_words.out


def test_a_missing_configuration_is_named_and_the_status_is_1(run: Run) -> None:
    status, found = findings(run, "--config", "missing.toml")
    assert (status, found["configuration"][0]) == (1, "bad")
    assert "missing.toml" in found["configuration"][1]


def test_a_server_that_would_be_open_to_others_is_found(run: Run) -> None:
    status, found = findings(run, "--config", written('[server]\nhost = "0.0.0.0"\n' + LEXICAL))
    assert (status, found["access"][0]) == (1, "bad")
    assert "RERANKD_API_KEY" in found["access"][1]


def test_variables_are_named_and_the_key_is_not_shown(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RERANKD_API_KEY", "correct-horse-battery")
    status, found = findings(run, "--config", written(LEXICAL))
    assert status == 0
    assert "RERANKD_API_KEY" in found["configuration"][1]
    assert found["access"] == ("ok", "auth.mode auto: a key is required")
    assert "correct-horse" not in str(found)


def test_a_model_whose_files_are_not_here_is_a_note_because_they_may_be_fetched(run: Run) -> None:
    status, found = findings(run, "--config", written('[[models]]\nname = "BAAI/bge-reranker-v2-m3"\n'))
    assert status == 0
    assert found["model"][0] == "note"
    assert "BAAI/bge-reranker-v2-m3" in found["model"][1]
