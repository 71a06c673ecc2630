from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from rerankd.cli import bench_formats
from rerankd.engine.calibration import SIZES
from rerankd.engine.loading import ModelSpec, load_local
from rerankd.engine.minilm import find_minilm
from rerankd.errors import LoadError
from tests.cli.conftest import Run, on_terminal
from tests.engine import tiny

SMALL = ["--documents", "12", "--tokens", "20", "--rounds", "2"]
LEXICAL = ["-m", "lexical", *SMALL]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.write_xlmr(tmp_path_factory.mktemp("tiny"), positions=514)


@pytest.fixture
def no_int8(monkeypatch: pytest.MonkeyPatch) -> None:
    """Models are loaded as ever, but none in int8."""

    def load(spec: ModelSpec, *arguments: Any) -> Any:
        if spec.quantization == "int8":
            raise LoadError("There are no whole numbers in it.")
        return load_local(spec, *arguments)

    monkeypatch.setattr(bench_formats, "load_local", load)


def measured(run: Run, *arguments: str) -> dict[str, Any]:
    outcome = run("bench", *arguments, "--json")
    assert (outcome.status, outcome.err) == (0, "")
    found: dict[str, Any] = json.loads(outcome.out)
    return found


def rows(out: str) -> dict[str, list[str]]:
    """The cells of each line of the table, by its label."""
    lines = (re.split(r" {2,}", line.strip()) for line in out.splitlines() if line.strip())
    return {label: cells for label, *cells in lines}


def test_one_json_object_says_what_was_measured(run: Run) -> None:
    found = measured(run, *LEXICAL)
    assert {name: found[name] for name in ("model", "source", "family", "device", "documents", "rounds")} == {
        "model": "lexical",
        "source": "lexical",
        "family": "lexical",
        "device": "cpu",
        "documents": 12,
        "rounds": 2,
    }
    (column,) = found["columns"]
    assert (column["dtype"], column["batch_tokens"], column["agreement"]) == ("float64", None, None)
    assert column["documents_per_second"] == pytest.approx(12_000 / column["latency_p50"])
    assert column["tokens_per_second"] == pytest.approx(1000 * found["tokens"] / column["latency_p50"])
    assert 0 < column["latency_p50"] <= column["latency_p95"]
    assert {"tokenize", "infer"} <= column["stages"].keys()
    assert sum(column["stages"].values()) <= column["latency_p95"]


def test_the_tokens_asked_for_are_those_of_each_document_as_the_model_counts_them(run: Run) -> None:
    few, many = (measured(run, *LEXICAL, "--tokens", tokens)["tokens"] for tokens in ("100", "300"))
    assert (many - few) / 12 == pytest.approx(200, rel=0.05)


def test_the_table_has_the_same_figures_in_words(run: Run) -> None:
    outcome = run("bench", *LEXICAL)
    assert (outcome.status, outcome.err) == (0, "")
    assert "\x1b" not in outcome.out
    found = rows(outcome.out)
    assert (found["model"], found["family"], found["rounds"]) == (["lexical"], ["lexical"], ["2"])
    assert found["request"][0].startswith("12 documents, ")
    assert (found["dtype"], found["batch size, tokens"]) == (["float64"], ["-"])
    rate, p50 = (float(found[label][0].replace(",", "")) for label in ("documents/s", "request p50, ms"))
    assert rate == pytest.approx(12_000 / p50, rel=0.02)
    for label in ("tokens/s", "request p95, ms", "ten documents, ms", "one document, ms", "stage infer, ms"):
        assert float(found[label][0].replace(",", "")) > 0


def test_builtin_says_its_batches_and_its_stages(run: Run) -> None:
    if find_minilm(offline=True) is None:
        pytest.skip("all-MiniLM-L6-v2 is not on this machine")
    found = measured(run, *SMALL)
    (column,) = found["columns"]
    assert found["model"] == "builtin"
    assert column["batch_tokens"] in SIZES
    assert {"tokenize", "infer", "fuse"} <= column["stages"].keys()


@pytest.mark.usefixtures("no_int8")
def test_number_formats_are_held_against_float32_and_one_that_cannot_be_loaded_says_why(run: Run, folder: Path) -> None:
    found = measured(run, "-m", f"tiny={folder}", *SMALL, "--compare", "int8,bfloat16")
    assert found["failures"] == {"int8": "There are no whole numbers in it."}
    exact, half = found["columns"]
    assert (exact["dtype"], half["dtype"]) == ("float32", "bfloat16")
    assert (exact["speed_ratio"], exact["agreement"]) == (1.0, None)
    assert half["speed_ratio"] == pytest.approx(exact["latency_p50"] / half["latency_p50"])
    agreement = half["agreement"]
    assert 0.5 < agreement["kendall_tau"] <= 1
    assert 0.5 < agreement["top_10_overlap"] <= 1
    assert 0 < agreement["largest_score_difference"] < 0.2


@pytest.mark.usefixtures("no_int8")
def test_the_table_has_a_column_for_each_format_and_a_sentence_for_one_that_there_is_not(
    run: Run, folder: Path
) -> None:
    outcome = run("bench", "-m", f"tiny={folder}", *SMALL, "--compare", "int8,bfloat16,float32")
    found = rows(outcome.out)
    assert (outcome.status, outcome.err) == (0, "")
    assert found["dtype"] == ["float32", "bfloat16"]
    assert found["speed"][0] == "1.00 x"
    assert float(found["speed"][1].removesuffix(" x")) > 0
    assert 0.5 < float(found["Kendall tau"][0]) <= 1
    assert found["top 10 in common"][0].endswith("%")
    assert 0 < float(found["largest difference"][0]) < 0.2
    assert outcome.out.endswith("\nint8 was not measured: There are no whole numbers in it.\n")


def test_a_model_that_runs_in_another_format_than_was_asked_for_is_not_shown_under_its_name(run: Run) -> None:
    outcome = run("bench", *LEXICAL, "--compare", "bfloat16")
    assert (outcome.status, outcome.out) == (1, "")
    assert outcome.err == "error: lexical runs in float64 all the same.\n"


def test_what_the_model_had_to_cut_is_a_warning(run: Run, folder: Path) -> None:
    outcome = run("bench", "-m", f"tiny={folder}", *SMALL, "--tokens", "2000")
    assert outcome.status == 0
    assert outcome.err.startswith("warning: 12 of 12 documents cut to the model's 512 tokens")
    assert outcome.err.count("\n") == 1


def test_a_model_that_is_not_there_is_one_line(run: Run) -> None:
    outcome = run("bench", "-m", "./nowhere", "--compare", "int8")
    assert (outcome.status, outcome.out) == (1, "")
    assert outcome.err == "error: There is no folder ./nowhere.\n"


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--compare", "float32,int4"], "'int4' is none of"),
        (["--compare", ""], "'' is none of"),
        (["--compare", "int8", "--dtype", "float32"], "leave --dtype out"),
        (["--documents", "0"], "--documents"),
        (["--rounds", "0"], "--rounds"),
    ],
)
def test_what_makes_no_sense_has_status_2(run: Run, arguments: list[str], says: str) -> None:
    outcome = run("bench", "-m", "lexical", *arguments)
    assert (outcome.status, outcome.out) == (2, "")
    assert says in outcome.err


def test_help_names_the_command_and_its_options(run: Run) -> None:
    assert "bench" in run("--help").out
    shown = run("bench", "--help").out
    for option in ("--model", "--documents", "--tokens", "--rounds", "--device", "--dtype", "--compare", "--json"):
        assert option in shown


def test_on_a_terminal_a_bar_is_shown_and_the_table_keeps_to_its_width() -> None:
    sent = on_terminal(80, b"", "bench", *LEXICAL)
    assert "measuring lexical" in sent
    assert "━" in sent
    table = sent[sent.rindex("\x1b[2K") :].removeprefix("\x1b[2K")
    assert rows(table)["model"] == ["lexical"]
    assert max(map(len, table.splitlines())) <= 80
