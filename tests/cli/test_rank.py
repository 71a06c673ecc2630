from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest

from rerankd.app import Application
from rerankd.cli.rank import _scale, read_documents
from rerankd.dialects.superset import Superset
from rerankd.errors import BadRequest
from rerankd.library import request_of
from tests.cli.conftest import Run, on_terminal
from tests.conftest import FakeReranker, request_for

QUERY = "What is the capital of France?"
TEXTS = ["The sky is blue.", "Paris is the capital of France.", "I like to eat pizza."]
LINES = "".join(f"{text}\n" for text in TEXTS).encode()
LEXICAL = ["-m", "lexical"]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "documents.txt"
    path.write_bytes(LINES)
    return path


def rows(out: str) -> list[str]:
    """What follows the heading."""
    heading, *lines = out.splitlines()
    assert heading.split() == ["rank", "score", "text"]
    return lines


def found(run: Run, *arguments: str, stdin: bytes = b"") -> list[str]:
    """The texts, best first."""
    outcome = run("rank", *arguments, *LEXICAL, "--json", stdin=stdin)
    assert (outcome.status, outcome.err) == (0, "")
    return [result["document"]["text"] for result in json.loads(outcome.out)["results"]]


def test_the_lines_of_a_file_are_ranked_best_first(run: Run, file: Path) -> None:
    outcome = run("rank", QUERY, str(file), *LEXICAL)
    assert (outcome.status, outcome.err) == (0, "")
    lines = rows(outcome.out)
    assert [line.split()[0] for line in lines] == ["1", "2", "3"]
    assert lines[0].rstrip().endswith(TEXTS[1])
    scores = [float(line.split()[1]) for line in lines]
    assert scores == sorted(scores, reverse=True)


@pytest.mark.parametrize("dash", [[], ["-"]])
def test_standard_input_is_read_where_no_file_is_named(run: Run, file: Path, dash: list[str]) -> None:
    assert run("rank", QUERY, *dash, *LEXICAL, stdin=LINES) == run("rank", QUERY, str(file), *LEXICAL)


@pytest.mark.parametrize(("top_n", "shown"), [("0", 3), ("1", 1), ("2", 2), ("9", 3)])
def test_top_n_shows_the_best(run: Run, file: Path, top_n: str, shown: int) -> None:
    assert len(rows(run("rank", QUERY, str(file), *LEXICAL, "--top-n", top_n).out)) == shown
    assert len(found(run, QUERY, str(file), "-n", top_n)) == shown


def test_a_negative_top_n_is_refused(run: Run, file: Path) -> None:
    assert run("rank", QUERY, str(file), *LEXICAL, "--top-n", "-1").status == 2


OPTIONS = [
    *("--instruction", "Find answers.", "--max-tokens-per-doc", "7", "--max-chunks-per-doc", "2"),
    *("--overlap-tokens", "0", "--no-truncation"),
]


def test_the_options_of_a_request_reach_the_model(run: Run, file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    heard = FakeReranker("lexical")

    class Overheard(Application):
        def __init__(self, *built_of: Any) -> None:
            super().__init__(*built_of)
            self.reranker = heard

    monkeypatch.setattr("rerankd.cli.rank.Application", Overheard)
    assert run("rank", QUERY, str(file), *LEXICAL, *OPTIONS).status == 0
    assert run("rank", QUERY, str(file), *LEXICAL).status == 0
    whole, bare = heard.asked
    assert bare == msgspec.structs.replace(request_of(QUERY, TEXTS), model="lexical")
    assert whole == msgspec.structs.replace(
        bare,
        instruction="Find answers.",
        max_tokens_per_doc=7,
        max_chunks_per_doc=2,
        overlap_tokens=0,
        truncation=False,
    )


@pytest.mark.parametrize(
    "option", [("--max-tokens-per-doc", "0"), ("--max-chunks-per-doc", "0"), ("--overlap-tokens", "-1")]
)
def test_a_length_out_of_bounds_is_refused_by_the_options_name(run: Run, file: Path, option: tuple[str, str]) -> None:
    outcome = run("rank", QUERY, str(file), *LEXICAL, *option)
    assert outcome.status == 2
    assert option[0] in outcome.err


def test_json_is_what_the_server_answers(run: Run, file: Path) -> None:
    body = json.loads(run("rank", QUERY, str(file), *LEXICAL, "--json").out)
    _, response_type = Superset().schemas()
    assert list(body) == list(response_type.__struct_fields__)
    answer = Superset().parse_response(json.dumps(body).encode(), {}, request_for(*TEXTS))
    assert (body["object"], answer.model, answer.results[0].index) == ("rerank", "lexical", 1)
    assert [result.document.text for result in answer.results if result.document] == [
        TEXTS[result.index] for result in answer.results
    ]
    assert answer.usage.total_tokens > 0
    assert body["id"]
    assert body["created"] > 1_700_000_000


def test_json_lines_are_documents_by_their_text(run: Run) -> None:
    lines = b'{"text": "Pizza.", "id": 1}\n\n{"id": 2, "text": "Paris\\nin France."}\r\n{"text": ""}\n'
    assert found(run, "Paris France", stdin=lines) == ["Paris\nin France.", "Pizza.", ""]


@pytest.mark.parametrize(
    "bad", ["not json", '{"text": 7}', '{"title": "a"}', '{"text": "a"', '["a"]', '{"text": null}']
)
def test_a_bad_line_among_json_lines_is_named(run: Run, bad: str) -> None:
    outcome = run("rank", "q", *LEXICAL, stdin=f'{{"text": "a"}}\n\n{bad}\n'.encode())
    assert (outcome.status, outcome.out) == (1, "")
    assert outcome.err.startswith("error: standard input, line 3 is not a JSON object with a string `text`")


def test_lines_that_only_look_like_json_are_documents_as_they_stand(run: Run) -> None:
    assert found(run, "q", stdin=b"{braces}\n[brackets]\n7\n") == ["{braces}", "[brackets]", "7"]


def test_blank_lines_line_ends_and_a_byte_order_mark_are_no_documents(run: Run) -> None:
    assert found(run, "q", stdin=b"\xef\xbb\xbfone\r\n\n   \n  two  \nthree") == ["one", "two", "three"]


@pytest.mark.parametrize("content", [b"", b"\n \r\n\t\n", b"\xef\xbb\xbf"])
def test_an_input_without_documents_is_refused(run: Run, content: bytes) -> None:
    outcome = run("rank", "q", *LEXICAL, stdin=content)
    assert (outcome.status, outcome.err) == (1, "error: standard input holds no documents.\n")


def test_a_line_that_is_not_utf_8_is_named(tmp_path: Path) -> None:
    path = tmp_path / "latin.txt"
    path.write_bytes(b"one\ntwo\ncaf\xe9\n")
    with pytest.raises(BadRequest, match=r"latin\.txt, line 3 is not UTF-8"):
        read_documents(str(path))


@pytest.mark.parametrize(("name", "reason"), [("missing.txt", "No such file"), (".", "Is a directory")])
def test_a_file_that_cannot_be_read_is_named_with_the_reason(run: Run, name: str, reason: str) -> None:
    outcome = run("rank", "q", name, *LEXICAL)
    assert outcome.status == 1
    assert outcome.err.startswith(f"error: {name} cannot be read: {reason}")


def test_an_empty_query_is_refused(run: Run, file: Path) -> None:
    assert run("rank", "", str(file), *LEXICAL).err == "error: `query` is empty; it must be a non-empty string.\n"


def test_a_model_that_is_none_is_refused(run: Run, file: Path) -> None:
    outcome = run("rank", "q", str(file), "-m", "no such model")
    assert outcome.status == 1
    assert "no such model" in outcome.err


CONFIG = """
[[models]]
name = "one"
source = "lexical"
[[models]]
name = "two"
source = "lexical"
aliases = ["zwei"]
[[models]]
name = "broken"
source = "./no/such/folder"
"""


@pytest.mark.parametrize(
    ("default", "arguments", "model"),
    [
        ("", [], "one"),
        ("two", [], "two"),
        ("zwei", [], "zwei"),
        ("", ["-m", "two"], "two"),
        ("", ["-m", "zwei"], "zwei"),
        ("", ["-m", "three=lexical"], "three"),
        ("two", ["-m", "lexical"], "lexical"),
    ],
)
def test_the_model_is_the_one_named_or_the_default_or_the_first_and_it_alone_is_loaded(
    run: Run, file: Path, default: str, arguments: list[str], model: str
) -> None:
    Path("rerankd.toml").write_text(CONFIG + (f'[defaults]\nmodel = "{default}"\n' if default else ""))
    outcome = run("rank", QUERY, str(file), *arguments, "--json")
    assert outcome.err == ""
    assert json.loads(outcome.out)["model"] == model


def test_an_alias_is_shown_as_a_table_too(run: Run, file: Path) -> None:
    Path("rerankd.toml").write_text(CONFIG)
    assert len(rows(run("rank", QUERY, str(file), "-m", "zwei").out)) == 3


@pytest.mark.parametrize("text", ["[bold]x[/red]", "x" * 5000, "雪" * 300])
def test_without_a_terminal_a_document_stands_whole_and_as_it_is_on_its_line(run: Run, text: str) -> None:
    (line,) = rows(run("rank", "q", *LEXICAL, stdin=text.encode() + b"\n").out)
    assert line.rstrip().endswith(f" {text}")


@pytest.mark.parametrize("text", [r"\u001b[31mred\u001b[0m", r"a\u0000b", r"a\r\nb", r"\u009b2Jx", r"\u0007\u0008x"])
def test_control_characters_in_a_document_never_reach_the_output(run: Run, text: str) -> None:
    outcome = run("rank", "q", *LEXICAL, stdin=f'{{"text": "{text}"}}\n'.encode())
    assert len(rows(outcome.out)) == 1
    assert not [character for character in outcome.out if character != "\n" and not character.isprintable()]


def test_a_cosine_or_a_logit_is_drawn_among_its_company_and_a_probability_on_its_own_scale() -> None:
    assert _scale([0.2, 0.4], "probability") == (0.0, 1.0)
    assert _scale([-3.0, 4.0], "logit") == (-3.0, 4.0)
    assert _scale([0.4, 0.1], "cosine") == (0.1, 0.4)


def test_a_single_logit_has_a_bar_too() -> None:
    low, high = _scale([2.0], "logit")
    assert low < high == 2.0


def test_on_a_terminal_documents_are_asked_for() -> None:
    sent = on_terminal(80, b"Paris in France\nPizza\n\x04", "rank", "France", *LEXICAL)
    assert "Documents, one a line; end with Ctrl-D:" in sent
    assert "0." in sent


def test_on_a_terminal_there_is_colour_but_each_document_keeps_to_its_line_and_its_own_escapes_to_itself(
    tmp_path: Path,
) -> None:
    path = tmp_path / "documents.jsonl"
    path.write_text(json.dumps({"text": "\x1b[31mred " + "long " * 100}) + "\n" + json.dumps({"text": "Paris"}) + "\n")
    sent = on_terminal(60, b"", "rank", "Paris", str(path), *LEXICAL)
    assert "\x1b[" in sent
    assert "\x1b[31m" not in sent
    assert "…" in sent
    assert [line for line in sent.splitlines() if "[31mred long long" in line]
