from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.cli.conftest import Run

CONFIG = """
[[models]]
name = "fast"
source = "lexical"
aliases = ["quick", "rapid"]
[[models]]
name = "BAAI/bge-reranker-v2-m3"
[[models]]
name = "mine"
source = "./no/such/folder"
"""


@pytest.fixture(autouse=True)
def _configured(tmp_path: Path) -> None:
    (tmp_path / "rerankd.toml").write_text(CONFIG)


def test_the_list_has_the_configured_models_and_those_that_come_with_rerankd(run: Run) -> None:
    outcome = run("models", "list", "--json")
    rows = {row["name"]: row for row in json.loads(outcome.out)}
    assert outcome.status == 0
    assert list(rows) == ["fast", "BAAI/bge-reranker-v2-m3", "mine", "builtin"]
    assert {name: row["configured"] for name, row in rows.items()} == {
        "fast": True,
        "BAAI/bge-reranker-v2-m3": True,
        "mine": True,
        "builtin": False,
    }
    assert rows["fast"]["aliases"] == ["quick", "rapid"]
    assert (rows["fast"]["source"], rows["fast"]["family"]) == ("lexical", "lexical")


@pytest.mark.parametrize("name", ["BAAI/bge-reranker-v2-m3", "mine"])
def test_a_model_whose_files_are_not_here_is_listed_with_that_reason(run: Run, name: str) -> None:
    rows = {row["name"]: row for row in json.loads(run("models", "list", "--json").out)}
    assert (rows[name]["folder"], rows[name]["reason"], rows[name]["size"]) == (None, "not on this machine", 0)


def test_the_table_says_the_same_in_words(run: Run) -> None:
    outcome = run("models", "list")
    assert (outcome.status, outcome.err) == (0, "")
    for word in ("fast", "quick, rapid", "lexical", "not on this machine", "(not served)"):
        assert word in outcome.out
    assert "\x1b" not in outcome.out
