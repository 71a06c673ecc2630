"""A server as a user starts it, one for all clients, and each client's library run once, in its own environment."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Generator, Iterator, Mapping
from functools import cache
from pathlib import Path
from threading import Timer
from typing import Any, Protocol

import pytest

from tests.contract.cases import KEY, KEY_VARIABLE, URL_VARIABLE

ROOT = Path(__file__).parents[2]
ENVIRONMENTS = Path(__file__).parent / "environments"
MADE = ROOT / ".venv" / "contract"
EXAMPLE = ("--config", "examples/rerankd.toml")
PATIENCE = 90.0
"""Seconds for the server to start, and for a library to be imported and to ask everything."""
LOG_SHOWN = 4000

SERVER_LOG = pytest.StashKey[Path]()

QUIET = {
    "ANONYMIZED_TELEMETRY": "False",
    "DO_NOT_TRACK": "1",
    "HF_HUB_OFFLINE": "1",
    "LANGCHAIN_TRACING_V2": "false",
    "LITELLM_LOCAL_MODEL_COST_MAP": "True",
    "LITELLM_TELEMETRY": "False",
}
"""A client's process gets these and PATH and nothing else from outside: no proxy, no other key, no telemetry."""


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory, pytestconfig: pytest.Config) -> Iterator[str]:
    """The URL of `rerankd serve` with the builtin model and a key."""
    log = tmp_path_factory.mktemp("contract") / "server.log"
    pytestconfig.stash[SERVER_LOG] = log
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RERANKD_")}
    command = [str(Path(sys.executable).with_name("rerankd")), "serve", *EXAMPLE, "--port", "0", "--json"]
    with (
        log.open("w") as errors,
        subprocess.Popen(
            command,
            cwd=ROOT,
            env=environment
            | {"RERANKD_API_KEY": KEY, "RERANKD_SERVER_DATABASE": f"sqlite:///{log.with_name('rerankd.db')}"},
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
        ) as process,
    ):
        assert process.stdout is not None
        overdue = Timer(PATIENCE, process.kill)
        overdue.start()
        try:
            line = process.stdout.readline()
            overdue.cancel()
            assert line, f"The server did not start:\n{log.read_text()}"
            yield json.loads(line)["url"]
        finally:
            overdue.cancel()
            process.kill()


class Run(Protocol):
    def __call__(self, environment: str, library: str) -> Mapping[str, Any]:
        """What `tests/contract/clients/{library}.py` saw, by its clients' names, and the strangers it tried to reach."""


@pytest.fixture(scope="session")
def run(server: str, tmp_path_factory: pytest.TempPathFactory) -> Run:
    home = tmp_path_factory.mktemp("home")
    variables = {"PATH": os.environ["PATH"], "HOME": str(home), URL_VARIABLE: server, KEY_VARIABLE: KEY, **QUIET}

    @cache  # a run that fails is kept too: many tests would wait for it, one after the other
    def printed(python: str, library: str) -> tuple[bytes, str]:
        """The last line, and what is wrong if there is none."""
        command = [python, "-m", "tests.contract.asking", library]
        try:
            ran = subprocess.run(command, cwd=ROOT, env=variables, capture_output=True, timeout=PATIENCE, check=False)
        except subprocess.TimeoutExpired:
            return b"", f"{library} took longer than {PATIENCE} s."
        if ran.returncode != 0:
            return b"", f"{library} cannot be run:\n{ran.stderr.decode()}"
        return ran.stdout.splitlines()[-1], ""

    def run(environment: str, library: str) -> Mapping[str, Any]:
        line, trouble = printed(python_of(environment), library)
        if trouble:
            pytest.fail(trouble, pytrace=False)
        found: Mapping[str, Any] = json.loads(line)
        return found

    return run


def python_of(environment: str) -> str:
    """Fails where the environment is not there, or was made from other versions than its file names now."""
    made = MADE / environment / "made-from.txt"
    wanted = ENVIRONMENTS / f"{environment}.txt"
    if not made.is_file() or made.read_bytes() != wanted.read_bytes():
        pytest.fail(f"The clients of {wanted.relative_to(ROOT)} are not installed: run `make contract`.", pytrace=False)
    return str(MADE / environment / "bin" / "python")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """A failure comes with what the server wrote."""
    report = yield
    log = item.config.stash.get(SERVER_LOG, None)
    if report.failed and log is not None:
        report.sections.append(("server log", log.read_text()[-LOG_SHOWN:]))
    return report
