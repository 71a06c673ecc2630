"""A model fetched from a hub that speaks Hugging Face's protocol on this machine: what is asked for, and what never is."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

from tests.engine import tiny

COMMIT = "c0ffee" * 6 + "c0ff"
MODEL = "someone/tiny-reranker"


class Hub(ThreadingHTTPServer):
    """Serves `folder` as the files of MODEL, and remembers the paths that were fetched."""

    def __init__(self, folder: Path) -> None:
        super().__init__(("127.0.0.1", 0), HubRequest)
        self.folder = folder
        self.fetched: list[str] = []

    def names(self) -> list[str]:
        return sorted(str(path.relative_to(self.folder)) for path in self.folder.rglob("*") if path.is_file())


class HubRequest(BaseHTTPRequestHandler):
    server: Hub

    def do_GET(self) -> None:
        path = unquote(urlsplit(self.path).path)
        resolve = f"/{MODEL}/resolve/{COMMIT}/"
        if path.startswith(resolve):
            self._file(path.removeprefix(resolve))
        elif path.startswith(f"/api/models/{MODEL}/tree/"):
            self._json([{"type": "file", "path": name, **self._facts(name)} for name in self.server.names()])
        elif path.startswith(f"/api/models/{MODEL}"):
            siblings = [{"rfilename": name} for name in self.server.names()]
            self._json({"id": MODEL, "sha": COMMIT, "siblings": siblings, "private": False, "tags": [], "downloads": 0})
        else:
            self.send_error(404)

    do_HEAD = do_GET  # noqa: N815

    def _facts(self, name: str) -> dict[str, object]:
        content = (self.server.folder / name).read_bytes()
        return {"size": len(content), "oid": hashlib.sha1(content).hexdigest()}  # noqa: S324

    def _file(self, name: str) -> None:
        content = (self.server.folder / name).read_bytes()
        if self.command == "GET":
            self.server.fetched.append(name)
        self._send(content, {"ETag": f'"{self._facts(name)["oid"]}"', "X-Repo-Commit": COMMIT})

    def _json(self, value: object) -> None:
        self._send(json.dumps(value).encode(), {"Content-Type": "application/json"})

    def _send(self, content: bytes, headers: dict[str, str]) -> None:
        self.send_response(200)
        for name, value in {**headers, "Content-Length": str(len(content))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[Hub]:
    folder = tiny.write_xlmr(tmp_path / "model")
    (folder / "modeling.py").write_text("raise SystemExit('code from a checkpoint was run')")
    (folder / "pytorch_model.bin").write_bytes(b"a pickle")
    hub = Hub(folder)
    thread = threading.Thread(target=hub.serve_forever, daemon=True)
    thread.start()
    yield hub
    hub.shutdown()
    hub.server_close()
    thread.join()


def rank(endpoint: str, home: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", "from rerankd.cli.main import main; main()", "rank", "berlin", "--json"]
    environment = {**os.environ, "HF_ENDPOINT": endpoint, "HF_HOME": str(home), "HF_HUB_OFFLINE": "0", "NO_PROXY": "*"}
    return subprocess.run(
        [*command, "--model", f"tiny={MODEL}"],
        input="paris\nberlin\n",
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_a_hub_is_asked_for_data_and_never_for_code_and_its_files_are_kept(hub: Hub, tmp_path: Path) -> None:
    endpoint = f"http://127.0.0.1:{hub.server_address[1]}"
    first = rank(endpoint, tmp_path / "home")
    assert first.returncode == 0, first.stderr
    assert len(json.loads(first.stdout)["results"]) == 2
    assert set(hub.fetched) == {"config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"}

    hub.shutdown()
    hub.server_close()
    again = rank(endpoint, tmp_path / "home")
    assert again.returncode == 0, "what was fetched once is enough without a network"
    assert json.loads(again.stdout)["results"] == json.loads(first.stdout)["results"]


def test_a_model_that_the_hub_does_not_have_is_said_so(hub: Hub, tmp_path: Path) -> None:
    result = rank(f"http://127.0.0.1:{hub.server_address[1]}/nowhere", tmp_path / "home")
    assert result.returncode == 1
    assert f"error: Hugging Face could not be reached, or did not give {MODEL}." in result.stderr
