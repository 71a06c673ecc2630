"""POST /v1/rerank under https://openrouter.ai/api, which is only called."""

from __future__ import annotations

import json

import pytest

from rerankd.dialects.directory import CALLED, DIALECTS
from rerankd.dialects.openrouter import OpenRouter
from rerankd.errors import BadRequest, ClientError, Overloaded, RateLimited, UpstreamError, UpstreamMalformed
from rerankd.types import Document, RerankRequest, RerankResponse, Result, Usage
from tests.conftest import request_for


def read(body: object) -> RerankResponse:
    return OpenRouter().parse_response(json.dumps(body).encode(), {}, request_for("a", "b", model="asked"))


def test_it_is_called_and_not_served() -> None:
    assert "openrouter" in CALLED
    assert "openrouter" not in DIALECTS


def test_a_request_has_no_more_than_openrouter_knows() -> None:
    request = RerankRequest(
        query="q",
        documents=(Document("a"), Document("title: t", {"title": "t"})),
        model="cohere/rerank-v3.5",
        top_n=1,
        return_documents=True,
        instruction="i",
        truncation=False,
        raw_scores=True,
    )
    assert json.loads(OpenRouter().render_request(request)) == {
        "model": "cohere/rerank-v3.5",
        "query": "q",
        "documents": ["a", "title: t"],
        "top_n": 1,
    }


def test_without_a_top_n_none_is_sent() -> None:
    body = json.loads(OpenRouter().render_request(request_for("a", model="m")))
    assert body == {"model": "m", "query": "q", "documents": ["a"]}


def test_a_real_answer_is_read() -> None:
    answer = read(
        {
            "id": "gen-rerank-1234567890-abc",
            "model": "cohere/rerank-v3.5",
            "provider": "Cohere",
            "results": [
                {"index": 1, "relevance_score": 0.98, "document": {"text": "b"}},
                {"index": 0, "relevance_score": 0.1, "document": {"text": "a"}},
            ],
            "usage": {"total_tokens": 150, "search_units": 1, "cost": 0.001},
        }
    )
    assert answer.results == (Result(1, 0.98, Document("b")), Result(0, 0.1, Document("a")))
    assert answer.model == "cohere/rerank-v3.5"
    assert answer.usage == Usage(prompt_tokens=150, search_units=1)


@pytest.mark.parametrize("usage", [{}, {"usage": None}, {"usage": {"cost": 0.001}}])
def test_tokens_that_nobody_counted_are_estimated(usage: dict[str, object]) -> None:
    answer = read({"results": [{"index": 0, "relevance_score": 0.5}], **usage})
    assert (answer.model, answer.usage) == ("asked", Usage(prompt_tokens=0, estimated=True))


def test_search_units_are_read_where_they_alone_are_counted() -> None:
    usage = {"search_units": 2, "cost": 0.004}
    answer = read({"results": [{"index": 0, "relevance_score": 0.5}], "usage": usage})
    assert answer.usage == Usage(prompt_tokens=0, estimated=True, search_units=2)


def test_an_error_with_status_200_is_malformed() -> None:
    with pytest.raises(UpstreamMalformed):
        read({"error": {"code": 502, "message": "Provider returned error"}})


@pytest.mark.parametrize(
    ("status", "kind"),
    [(400, BadRequest), (402, ClientError), (429, RateLimited), (502, UpstreamError), (503, Overloaded)],
)
def test_its_errors_are_read(status: int, kind: type[Exception]) -> None:
    body = {"error": {"code": status, "message": "No.", "metadata": {"provider_name": "Cohere"}}, "user_id": "u"}
    error = OpenRouter().parse_error(status, {}, json.dumps(body).encode())
    assert (type(error), error.message) == (kind, "No.")
