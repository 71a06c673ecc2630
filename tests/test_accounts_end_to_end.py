"""`rerankd serve` for others, as its operator runs it: keys from the command line and `/admin/api`, limits, quotas, a row of
the ledger for each request, and the same answer again under its `Idempotency-Key`.
"""

from __future__ import annotations

import csv
import json
import os
import socket
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from time import monotonic, sleep, time
from typing import Any

import httpx2
import pytest
from typer.testing import CliRunner

from rerankd.cli.main import app
from rerankd.dialects.directory import DIALECTS
from rerankd.types import Call, Document, RerankRequest
from tests.channels.upstream import ranked
from tests.store.redis_server import RedisServer

PATIENCE = 60.0
IN_FORCE = 1.0
"""Seconds in which a running server has a change that the command line made (issue 6)."""
CONFIG = """
[server]
port = 0
database = "sqlite:///{folder}/rerankd.db"
{redis}

[[models]]
name = "lexical"

[[channels]]
name = "slow"
dialect = "jina"
base_url = "{upstream}"
models = {{ "slow" = "slow" }}
allow_private = true
"""
WITHOUT_SETTINGS = {name: None for name in os.environ if name.startswith("RERANKD_")}
PATIENT = """
from rerankd.cli.main import main
from rerankd.store import redis_connection

redis_connection.TIMEOUT = redis_connection.LIMIT = 10.0  # a busy machine is no reason to count apart
main()
"""
REFUSALS: dict[str, Callable[[dict[str, Any]], bool]] = {
    "/v1/rerank": lambda body: body["error"]["code"] == "rate_limited" and body["detail"] == body["message"],
    "/cohere/v2/rerank": lambda body: body.keys() <= {"id", "message"} and "2 requests" in body["message"],
    "/tei/rerank": lambda body: body.keys() == {"error", "error_type"} and body["error_type"] == "Overloaded",
    "/voyage/v1/rerank": lambda body: body.keys() == {"detail"} and "2 requests" in body["detail"],
}
"""By path: whether a refusal has the shape that clients of that format read."""


@dataclass
class Operator:
    """Has the configuration, and runs commands."""

    config: Path

    def rerankd(self, *arguments: str) -> str:
        """What the command prints, run in this process, which is not the server's; it must succeed."""
        done = CliRunner(env=WITHOUT_SETTINGS).invoke(app, [*arguments, "--config", str(self.config)])
        assert done.exit_code == 0, f"{done.output}{done.exception!r}"
        return done.stdout.strip()

    @contextmanager
    def serving(self, command: Sequence[str] = (str(Path(sys.executable).with_name("rerankd")),)) -> Iterator[Server]:
        environment = {name: value for name, value in os.environ.items() if not name.startswith("RERANKD_")}
        started = [*command, "serve", "--json", "--config", str(self.config)]
        with (
            (self.config.parent / "log").open("a") as log,
            subprocess.Popen(started, env=environment, stdout=subprocess.PIPE, stderr=log, text=True) as process,
        ):
            try:
                assert process.stdout is not None
                line = process.stdout.readline()
                assert line, Path(log.name).read_text()
                announced = json.loads(line)
                with httpx2.Client(base_url=announced["url"], timeout=PATIENCE, trust_env=False) as client:
                    yield Server(process, announced, client)
            finally:
                process.kill()


@dataclass
class Server:
    process: subprocess.Popen[str]
    announced: dict[str, Any]
    client: httpx2.Client
    asked: int = field(default=0)

    @property
    def admin(self) -> dict[str, str]:
        return bearer(self.announced["admin_key"])

    def make(self, name: str, **what: Any) -> tuple[str, str]:
        """A key over `/admin/api`: its id and its text."""
        answer = self.client.post("/admin/api/keys", json={"name": name, **what}, headers=self.admin)
        assert answer.status_code == 201, answer.text
        return answer.json()["id"], answer.json()["key"]

    def rank(
        self, key: str, path: str = "/v1/rerank", headers: dict[str, str] | None = None, **more: Any
    ) -> httpx2.Response:
        """Of a request that nobody made before."""
        self.asked += 1
        documents = [f"document {self.asked} of three", "another one", "and a third"]
        texts = "texts" if path.startswith("/tei") else "documents"
        model = {} if path.startswith("/tei") else {"model": "lexical"}
        body = {"query": f"Which is document {self.asked}?", texts: documents, **model, **more}
        return self.client.post(path, json=body, headers={**bearer(key), **(headers or {})})

    def rows(self, key_id: str) -> list[dict[str, Any]]:
        answer = self.client.get("/admin/api/requests", params={"key": key_id}, headers=self.admin)
        rows: list[dict[str, Any]] = answer.json()["requests"]
        return rows


def bearer(key: str) -> dict[str, str]:
    return {"authorization": f"Bearer {key}"}


def until(status: int, ask: Callable[[], httpx2.Response], seconds: float) -> None:
    end = monotonic() + seconds
    while (seen := ask().status_code) != status:
        assert monotonic() < end, f"still {seen} after {seconds} s"
        sleep(0.02)


def code(answer: httpx2.Response) -> tuple[int, str]:
    return answer.status_code, answer.json()["error"]["code"]


@pytest.fixture(scope="module")
def upstream() -> Iterator[socket.socket]:
    """What the channel `slow` connects to: it says nothing until a test does."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.settimeout(PATIENCE)
        yield listening


@pytest.fixture(scope="module")
def operator(tmp_path_factory: pytest.TempPathFactory, upstream: socket.socket) -> Operator:
    return configured(tmp_path_factory.mktemp("alone"), upstream)


@pytest.fixture(scope="module")
def me(operator: Operator) -> str:
    """A key that is made before the server starts; from it on every request needs one."""
    return operator.rerankd("keys", "create", "me", "--rpm", "2")


@pytest.fixture(scope="module")
def server(operator: Operator, me: str) -> Iterator[Server]:
    with operator.serving() as running:
        yield running


def configured(folder: Path, upstream: socket.socket, redis: str = "") -> Operator:
    file = folder / "rerankd.toml"
    url = f"http://127.0.0.1:{upstream.getsockname()[1]}"
    file.write_text(CONFIG.format(folder=folder, upstream=url, redis=f'redis = "{redis}"' if redis else ""))
    return Operator(file)


def test_the_third_of_two_requests_a_minute_is_refused_and_says_when_to_come_again(me: str, server: Server) -> None:
    answers = [server.rank(me) for _ in range(3)]
    assert [answer.status_code for answer in answers] == [200, 200, 429]
    assert [answer.headers["x-ratelimit-remaining-requests"] for answer in answers] == ["1", "0", "0"]
    assert {answer.headers["x-ratelimit-limit-requests"] for answer in answers} == {"2"}
    wait, all_again = answers[-1].headers["retry-after"], answers[-1].headers["x-ratelimit-reset-requests"]
    assert 1 <= int(wait) <= int(all_again.removesuffix("s")) <= 61
    for path, is_refusal in REFUSALS.items():
        answer = server.rank(me, path)
        assert (answer.status_code, "retry-after" in answer.headers) == (429, True), path
        assert is_refusal(answer.json()), (path, answer.text)


def test_what_the_command_line_rotates_and_revokes_is_in_force_within_a_second(
    operator: Operator, server: Server
) -> None:
    key_id, first = server.make("rotated")
    assert server.rank(first).status_code == 200
    second = operator.rerankd("keys", "rotate", "rotated", "--overlap", "1h")
    assert second.startswith(f"sk-rr-{key_id}")
    until(200, lambda: server.rank(second), IN_FORCE)
    assert server.rank(first).status_code == 200
    operator.rerankd("keys", "revoke", key_id)
    until(401, lambda: server.rank(second), IN_FORCE)
    until(401, lambda: server.rank(first), IN_FORCE)
    assert code(server.rank(first)) == (401, "invalid_api_key")


def test_a_key_for_one_model_may_not_ask_another_and_sees_it_alone(server: Server) -> None:
    _, key = server.make("bound", models=["lexical"])
    assert server.rank(key).status_code == 200
    assert code(server.rank(key, model="slow"))[0] == 403
    listed = server.client.get("/v1/models", headers=bearer(key)).json()["data"]
    assert [model["id"] for model in listed] == ["lexical"]


def test_a_key_ends_when_it_expires(server: Server) -> None:
    _, key = server.make("short", expires=int(time()) + 2)
    assert server.rank(key).status_code == 200
    until(401, lambda: server.rank(key), 3.0)


def test_a_key_is_good_from_its_networks_alone(server: Server) -> None:
    _, elsewhere = server.make("elsewhere", networks=["10.0.0.0/8"])
    _, here = server.make("here", networks=["10.0.0.0/8", "127.0.0.0/8"])
    assert code(server.rank(elsewhere, headers={"x-forwarded-for": "10.1.1.1"})) == (403, "forbidden")
    assert server.rank(here).status_code == 200


def test_a_strict_key_is_told_of_a_field_that_is_not_known(server: Server) -> None:
    _, strict = server.make("strict", strict=True)
    _, lenient = server.make("lenient")
    assert server.rank(lenient, top_m=1).status_code == 200
    refused = server.rank(strict, top_m=1)
    assert refused.status_code == 422
    assert "top_m" in refused.text
    assert server.rank(strict, top_n=1).status_code == 200


def test_a_quota_that_is_used_up_is_refused_and_its_usage_is_that_of_the_answers(server: Server) -> None:
    quota = 100
    key_id, key = server.make("metered", quotas={"total": quota})
    used = []
    while (answer := server.rank(key)).status_code == 200:
        used.append(answer.json()["usage"]["total_tokens"])
        assert sum(used) <= quota
    assert code(answer) == (429, "quota_exceeded")
    assert answer.headers["retry-after"] == "3600"
    assert len(used) > 1

    asked = {"key": key_id, "by": "day,key"}
    (row,) = server.client.get("/admin/api/usage", params=asked, headers=server.admin).json()["rows"]
    assert (row["tokens"], row["requests"], row["failed"]) == (sum(used), len(used), 0)
    asked["format"] = "csv"
    (line,) = csv.DictReader(server.client.get("/admin/api/usage", params=asked, headers=server.admin).text.split("\n"))
    assert {name: line[name] for name in row} == {name: str(value) for name, value in row.items()}


def test_under_its_idempotency_key_a_request_is_answered_again_to_the_bit_and_charged_once(server: Server) -> None:
    key_id, key = server.make("twice")
    said = {"idempotency-key": "an-order"}
    body: dict[str, Any] = {"query": "twice", "documents": ["once", "twice"]}
    first, again = (
        server.rank(key, headers={**said, "x-request-id": name}, **body) for name in ("the-first", "the-second")
    )
    assert (first.status_code, again.status_code) == (200, 200)
    assert again.content == first.content
    assert "idempotent-replayed" not in first.headers
    assert again.headers["idempotent-replayed"] == "true"
    assert again.headers["x-request-id"] == "the-second"
    assert code(server.rank(key, headers=said, query="thrice")) == (422, "idempotency_mismatch")
    charged = [row for row in server.rows(key_id) if row["status"] == 200]
    assert [row["request_id"] for row in charged] == ["the-first"]


def test_what_is_worked_on_is_409_until_it_is_answered(server: Server, upstream: socket.socket) -> None:
    key_id, key = server.make("waiting")
    body = {"query": "slow", "documents": ["a", "b", "c"], "model": "slow"}
    headers = {**bearer(key), "idempotency-key": "in-flight"}

    def ask() -> httpx2.Response:
        return server.client.post("/v1/rerank", json=body, headers=headers)

    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(ask)
        connection, _ = upstream.accept()
        with connection:
            request = connection.recv(65536)
            assert request.startswith(b"POST /v1/rerank ")
            refused = ask()
            assert (refused.status_code, refused.headers["retry-after"]) == (409, "1")
            connection.sendall(truthful_answer())
            answered = waiting.result(PATIENCE)
    assert answered.status_code == 200, answered.text
    assert ask().content == answered.content
    (row,) = server.rows(key_id)
    assert (row["channel"], row["attempts"], row["tokens"]) == ("slow", 1, answered.json()["usage"]["total_tokens"])


def truthful_answer() -> bytes:
    request = RerankRequest(query="slow", documents=tuple(map(Document, "abc")), model="slow")
    body = DIALECTS["jina"].render_response(ranked(request), request, Call("of-the-upstream", created=1))
    head = f"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\nconnection: close"
    return f"{head}\r\n\r\n".encode() + body


def test_what_one_key_asked_is_in_the_cache_of_no_other_unless_both_share(server: Server) -> None:
    def cached(key: str) -> bool:
        answer = server.rank(key, query="the same", documents=["for", "all"])
        return bool(answer.json()["usage"]["prompt_tokens_details"]["cached_tokens"])

    own = [server.make(f"own-{number}")[1] for number in range(2)]
    sharing = [server.make(f"sharing-{number}", shared_cache=True)[1] for number in range(2)]
    assert [cached(key) for key in own] == [False, False]
    assert [cached(key) for key in sharing] == [False, True]
    assert [cached(key) for key in own] == [True, True]


def test_metrics_are_the_admins(server: Server) -> None:
    _, key = server.make("curious")
    assert server.rank(key).status_code == 200
    statuses = [server.client.get("/metrics", headers=headers).status_code for headers in ({}, bearer(key))]
    assert statuses == [401, 403]
    shown = server.client.get("/metrics", headers=server.admin).text
    assert 'rerankd_errors_total{code="forbidden",status="403"}' in shown
    assert 'rerankd_tokens_total{channel="local",model="lexical"}' in shown


def test_after_all_of_it_the_ledger_is_well_and_the_doctor_knows_who_gets_in(
    operator: Operator, server: Server
) -> None:
    _, key = server.make("last")
    assert server.rank(key).status_code == 200
    whole = server.client.get("/admin/api/usage", params={"by": ""}, headers=server.admin).json()["rows"]
    found = json.loads(operator.rerankd("db", "check", "--json"))
    assert (found["well"], found["problems"]) == (True, [])
    assert [row["requests"] for row in whole] == [found["rows"]]
    said = {finding["what"]: finding for finding in json.loads(operator.rerankd("doctor", "--json"))}
    assert "a key that ranks" in said["database"]["detail"]
    assert "a key is required" in said["access"]["detail"]


def test_two_servers_on_one_file_and_one_redis_count_together_and_a_kill_loses_nothing(
    tmp_path: Path, upstream: socket.socket
) -> None:
    redis = RedisServer()
    operator = configured(tmp_path, upstream, redis.url)
    try:
        patient = (sys.executable, "-c", PATIENT)
        with operator.serving(patient) as first, operator.serving(patient) as second, ThreadPoolExecutor(8) as pool:
            assert "admin_key" in first.announced
            assert "admin_key" not in second.announced, "the admin's key is shown once"
            pair = (first, second)
            _, limited = first.make("limited", limits={"requests": 30})
            _, loading = first.make("loading")
            for server in pair:  # which is open until it knows that there is a key
                until(401, partial(server.client.get, "/v1/models"), PATIENCE)
            statuses = Counter(pool.map(lambda number: pair[number % 2].rank(limited).status_code, range(60)))
            assert statuses == {200: 30, 429: 30}
            answered = list(pool.map(lambda number: until_killed(pair, loading, number), range(8)))
    finally:
        redis.kill()
    found = json.loads(operator.rerankd("db", "check", "--json"))
    assert found["well"], found
    assert sum(answered) >= 8
    assert found["rows"] + sum(spool["rows"] for spool in found["spools"]) >= 30 + sum(answered)


def until_killed(pair: tuple[Server, Server], key: str, number: int) -> int:
    """How many answers one client had from its server; the first client kills both after some."""
    answered = 0
    while True:
        try:
            answered += pair[number % 2].rank(key).status_code == 200
        except httpx2.TransportError:
            return answered
        if number == 0 and answered == 20:
            for server in pair:
                server.process.kill()
