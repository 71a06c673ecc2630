"""`rerankd keys` from making a key to revoking it, and what a person reads."""

from __future__ import annotations

import json
import re
from pathlib import Path
from time import time
from typing import Any

import pytest
import typer
from rich.console import Console

from rerankd.api_keys import id_of
from rerankd.cli import keys, main
from tests.cli.conftest import Outcome, Run

KEY = re.compile(r"sk-rr-[0-9A-Za-z]{57}")


@pytest.fixture(autouse=True)
def _under_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether `rerankd` has it yet or not."""
    under = typer.Typer()
    under.add_typer(keys.app)
    monkeypatch.setattr(main, "app", under)


def listed(run: Run) -> dict[str, Any]:
    return {record["name"]: record for record in json.loads(run("keys", "list", "--json").out)}


def good(outcome: Outcome) -> Outcome:
    assert outcome.status == 0, outcome.err
    return outcome


def test_a_key_is_printed_once_alone_on_its_line_and_nowhere_again(run: Run, tmp_path: Path) -> None:
    made = good(run("keys", "create", "me", "--rpm", "2"))
    assert KEY.fullmatch(made.out.strip())
    assert id_of(made.out.strip().encode())
    assert "not shown again" in made.err
    secret = made.out.strip()[14:]
    for outcome in (run("keys", "list"), run("keys", "list", "--json"), run("keys", "update", "me", "--rpm", "3")):
        assert secret not in good(outcome).out + outcome.err
    files = {file.name: file for file in tmp_path.iterdir()}
    assert {"rerankd.db", "rerankd.db.pepper"} <= files.keys()
    assert all(file.stat().st_mode & 0o777 == 0o600 for file in files.values())
    assert not [name for name, file in files.items() if secret.encode() in file.read_bytes()]


def test_every_limit_is_kept_and_changed_and_taken_away(run: Run) -> None:
    limits = ("--rpm", "60", "--tpm", "1.5M", "--dpm", "10_000", "--concurrency", "4")
    quotas = ("--quota", "2g", "--quota-month", "300k", "--quota-day", "7")
    where = ("--model", "bge", "--model", "jina", "--network", "10.1.2.3/8", "--expires", "30d")
    made = json.loads(
        good(run("keys", "create", "me", *limits, *quotas, *where, "--strict", "--shared-cache", "--json")).out
    )
    assert KEY.fullmatch(made.pop("key"))
    assert listed(run) == {"me": made}
    assert made["limits"] == {"requests": 60, "tokens": 1_500_000, "documents": 10_000, "concurrency": 4}
    assert made["quotas"] == {"total": 2 * 10**9, "month": 300_000, "day": 7}
    assert (made["models"], made["networks"], made["scope"]) == (["bge", "jina"], ["10.0.0.0/8"], "rank")
    assert (made["strict"], made["shared_cache"]) == (True, True)
    assert abs(made["expires"] - time() - 30 * 86_400) < 60

    change = ("--rpm", "none", "--quota", "5", "--model", "none", "--network", "none", "--expires", "none")
    good(run("keys", "update", "me", *change, "--lenient", "--own-cache", "--disable", "--rename", "you"))
    after = listed(run)["you"]
    assert after["limits"] == {**made["limits"], "requests": None}
    assert after["quotas"] == {**made["quotas"], "total": 5}
    assert (after["models"], after["networks"], after["expires"]) == ([], [], None)
    assert (after["strict"], after["shared_cache"], after["enabled"]) == (False, False, False)
    good(run("keys", "update", "you", "--enable", "--expires", "2999-01-31"))
    assert (listed(run)["you"]["enabled"], listed(run)["you"]["expires"]) == (True, 32474736000)


def test_a_key_is_rotated_and_revoked(run: Run) -> None:
    first = good(run("keys", "create", "me")).out.strip()
    rotated = good(run("keys", "rotate", "me", "--overlap", "90m"))
    assert rotated.out.strip() != first
    assert id_of(rotated.out.strip().encode()) == id_of(first.encode())
    assert "good for 2 hours more" in rotated.err
    assert "and its former key, for 1 hour" in good(run("keys", "list")).out.replace("2 hours", "1 hour")
    assert good(run("keys", "rotate", "me", "--overlap", "0")).err.count("more") == 0
    good(run("keys", "revoke", "me"))
    assert "revoked just now" in run("keys", "list").out
    outcome = run("keys", "rotate", "me")
    assert (outcome.status, "revoked for good" in outcome.err) == (1, True)


def test_the_admins_key_is_made_and_rotated_too(run: Run) -> None:
    made = good(run("keys", "create", "admin", "--scope", "admin"))
    rotated = good(run("keys", "rotate", "admin"))
    assert made.out != rotated.out
    assert listed(run)["admin"]["scope"] == "admin"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("create", "me", "--rpm", "0"), "--rpm is a number"),
        (("create", "me", "--quota-day", "1.0000001"), "--quota-day is a number"),
        (("create", "me", "--tpm", "-1"), "--tpm is a number"),
        (("create", "me", "--network", "here"), "'here' is no network"),
        (("create", "me", "--expires", "soon"), "'soon' is no length of time"),
        (("create", "me", "--expires", "2020-01-01"), "in the past"),
        (("create", "you"), "There is a key 'you' already"),
        (("create", "admin"), "admin is the name"),
        (("rotate", "you", "--overlap", "1y"), "'1y' is no length of time"),
        (("rotate", "you", "--overlap", "31d"), "overlap is from 0"),
        (("rotate", "me"), "There is no key 'me'"),
        (("revoke", "me"), "There is no key 'me'"),
        (("update", "me", "--rpm", "5"), "There is no key 'me'"),
    ],
)
def test_what_cannot_be_is_said_in_a_sentence(run: Run, arguments: tuple[str, ...], said: str) -> None:
    good(run("keys", "create", "you"))
    outcome = run("keys", *arguments)
    assert (outcome.status, outcome.out) == (1, "")
    assert said in outcome.err
    assert listed(run).keys() == {"you"}


def test_another_pepper_is_said_before_a_key_is_made_that_nobody_could_use(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    good(run("keys", "create", "me"))
    monkeypatch.setenv("RERANKD_PEPPER", "a random text, or so it is hoped: 0123456789")
    outcome = run("keys", "create", "you")
    assert (outcome.status, "RERANKD_PEPPER is another one" in outcome.err) == (1, True)


def test_the_database_is_the_one_of_the_configuration(run: Run, tmp_path: Path) -> None:
    (tmp_path / "my.toml").write_text('[server]\ndatabase = "sqlite:///my.db"\n')
    good(run("keys", "create", "me", "--config", "my.toml"))
    assert (tmp_path / "my.db.pepper").exists()
    assert "There are no keys" in good(run("keys", "list")).out
    assert not (tmp_path / "rerankd.db").exists()


def test_the_list_fits_a_terminal_of_80_columns(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("me", "a team with a long name"):
        good(run("keys", "create", name, "--rpm", "60", "--tpm", "1.5M", "--model", "bge", "--expires", "20d"))
    console = Console(width=80, force_terminal=True, record=True)
    monkeypatch.setattr(keys, "Console", lambda **_: console)
    good(run("keys", "list"))
    lines = console.export_text().splitlines()
    assert max(map(len, lines)) <= 80
    text = re.sub(r"\s+", " ", " ".join(lines))
    for words in ("good for 20 days", "1.5M", "bge", "just now", *(record["id"] for record in listed(run).values())):
        assert all(word in text for word in words.split()), words
