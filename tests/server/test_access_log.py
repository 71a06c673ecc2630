from __future__ import annotations

import json
import logging

import msgspec
import pytest

from rerankd.server.access_log import AccessLog, Line
from rerankd.server.facts import Facts
from tests.server.conftest import MakeClient
from tests.server.facts import AT, facts
from tests.server.logged import logged

BARE = Facts("the-request", "GET", "/health/live", AT, 100.0, 200, 0.001, "/health/live")


def json_line(told: Facts) -> dict[str, object]:
    with logged("json") as caught:
        AccessLog().ended(told)
    (line,) = caught.text.splitlines()
    found: dict[str, object] = json.loads(line)
    return found


def text_line(told: Facts) -> str:
    with logged("text") as caught:
        AccessLog().ended(told)
    (line,) = caught.text.splitlines()
    return line


def test_a_line_says_who_asked_what_and_how_it_ended() -> None:
    assert json_line(facts()) == {
        "time": "2025-11-21T18:00:00.262Z",
        "level": "INFO",
        "logger": "rerankd.access",
        "request": "the-request",
        "method": "POST",
        "path": "/v1/rerank",
        "status": 200,
        "ms": 12.0,
        "key": "AbCd1234",
        "model": "good",
        "channel": "far",
        "documents": 2,
        "tokens": 40,
        "cached_tokens": 10,
        "upstream_ms": 10.0,
        "attempts": 3,
        "warnings": 1,
    }


def test_the_same_in_text() -> None:
    said = text_line(facts()).split(" INFO ")[1]
    assert said == (
        "rerankd.access 200 POST /v1/rerank 12.0 ms key=AbCd1234 model=good channel=far documents=2 tokens=40 "
        "cached_tokens=10 upstream_ms=10.0 attempts=3 warnings=1 request=the-request"
    )


def test_what_is_not_there_is_not_said() -> None:
    assert set(json_line(BARE)) == {"time", "level", "logger", "request", "method", "path", "status", "ms"}
    assert text_line(BARE).endswith("rerankd.access 200 GET /health/live 1.0 ms request=the-request")


def test_nothing_but_the_listed_fields_can_stand_in_a_line() -> None:
    told = facts(error="rate_limited", traceparent="00-" + "a" * 32 + "-" + "b" * 16 + "-01")
    told.call.notes.took("canary", 1.0)  # type: ignore[union-attr]
    assert set(json_line(told)) <= set(Line.__struct_fields__)
    assert "canary" not in text_line(told) + msgspec.json.encode(json_line(told)).decode()


def test_the_times_of_a_model_on_this_machine() -> None:
    told = facts()
    assert told.call is not None
    for stage in ("queue", "tokenize", "infer"):
        told.call.notes.took(stage, 2.5)
    line = json_line(told)
    assert (line["queue_ms"], line["tokenize_ms"], line["infer_ms"]) == (2.5, 2.5, 2.5)


@pytest.mark.parametrize(("status", "level"), [(200, "INFO"), (429, "INFO"), (500, "WARNING"), (503, "WARNING")])
def test_a_failure_of_ours_is_a_warning(status: int, level: str) -> None:
    assert json_line(facts(status=status, error="overloaded"))["level"] == level
    assert f" {level} rerankd.access {status} " in text_line(facts(status=status))


@pytest.mark.parametrize("field", ["path", "model"])
def test_a_client_s_words_cannot_make_a_line_of_their_own(field: str) -> None:
    forged = 'x\n2026-11-21 18:00:00,000 INFO rerankd.access 200 POST /forged key=root\x1b[2J"'
    told = facts(**{field: forged})
    assert "%0A2026-11-21%2018:00:00,000" in text_line(told)
    assert "%1B" in str(json_line(told)[field])


def test_where_no_log_is_installed_it_is_a_record_like_others(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger="rerankd.access")
    AccessLog().ended(facts())
    (record,) = caplog.records
    assert record.getMessage().startswith("200 POST /v1/rerank 12.0 ms key=AbCd1234")


def test_a_logger_that_is_turned_off_says_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logging.getLogger("rerankd.access"), "disabled", True)
    with logged() as caught:
        AccessLog().ended(facts())
    assert caught.text == ""


def test_the_server_fills_in_what_a_request_was(make_client: MakeClient) -> None:
    with logged("json") as caught:
        client = make_client(api_key="the-rank-key")
        body = {"query": "canary", "documents": ["canary", "b"], "model": "jina-reranker-v3"}
        client.post("/v1/rerank", json=body, headers={"x-api-key": "the-rank-key", "x-request-id": "good"})
        client.post("/v1/rerank", json=body, headers={"x-request-id": "refused"})
        client.get("/v1/models?canary=canary", headers={"x-request-id": "other"})
    good, refused, other = (json.loads(line) for line in caught.text.splitlines())
    assert (good["request"], good["status"], good["model"], good["channel"]) == ("good", 200, "lexical", "local")
    assert good["documents"] == 2
    assert good["tokens"] > 0
    assert good["infer_ms"] > 0
    assert (refused["request"], refused["status"], refused["error"]) == ("refused", 401, "invalid_api_key")
    assert (other["path"], other["error"]) == ("/v1/models", "invalid_api_key")
    assert "canary" not in caught.text
