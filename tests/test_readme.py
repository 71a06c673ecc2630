"""What README shows is run: its curl against the app that `make serve` serves, its Python as it stands."""

from __future__ import annotations

import re
from pathlib import Path

import msgspec
import pytest
from starlette.testclient import TestClient

from rerankd.app import Application
from rerankd.engine.minilm import find_minilm
from rerankd.server.http import create_app
from rerankd.settings import load_settings

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


@pytest.fixture(autouse=True)
def _needs_minilm() -> None:
    if find_minilm(offline=True) is None:
        pytest.skip("all-MiniLM-L6-v2 is not on this machine")


def test_the_curl_command_of_the_first_page_gives_a_right_answer() -> None:
    (path, body) = re.findall(r"curl http://127\.0\.0\.1:8000(/\S+) .*?-d '(.*?)'\n", README, re.DOTALL)[0]
    with Application(load_settings(ROOT / "examples/rerankd.toml")) as application:
        answer = TestClient(create_app(application)).post(path, content=body.encode())
    assert answer.status_code == 200
    assert answer.json()["model"] == msgspec.json.decode(body)["model"]
    assert [result["index"] for result in answer.json()["results"]] == [0]


def test_the_python_of_the_first_page_prints_the_right_document(capsys: pytest.CaptureFixture[str]) -> None:
    (source,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    exec(compile(source, "README.md", "exec"), {})  # noqa: S102  (it is our own page)
    assert capsys.readouterr().out.endswith("Paris is the capital of France.\n")
