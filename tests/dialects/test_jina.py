"""POST /v1/rerank, as Jina's clients send it, and as Jina and those who answer like it do."""

from __future__ import annotations

import json
from typing import Any

import pytest

from rerankd.dialects.jina import Jina
from rerankd.errors import BadRequest, ClientError, ModelNotFound, RateLimited, Unauthenticated, UpstreamMalformed
from rerankd.types import Call, Document, RerankRequest, RerankResponse, Result, Usage
from tests.conftest import request_for

CALL = Call("the-request")
BOTH = (Document("a"), Document("b"))
NO_USAGE_DETAILS = {
    "prompt_tokens_details": {"cached_tokens": 0, "audio_tokens": 0, "cached_tokens_details": {}},
    "completion_tokens_details": {
        "reasoning_tokens": 0,
        "audio_tokens": 0,
        "accepted_prediction_tokens": 0,
        "rejected_prediction_tokens": 0,
    },
}


def parsed(**fields: Any) -> RerankRequest:
    return Jina().parse_request(json.dumps({"query": "q", "documents": ["a", "b"], **fields}).encode())


def read(body: object, request: RerankRequest | None = None) -> RerankResponse:
    return Jina().parse_response(json.dumps(body).encode(), {}, request or request_for("a", "b", model="asked"))


def test_a_real_request_is_read() -> None:
    found = parsed(model="m", documents=["a", {"text": "b"}], top_n=2, return_documents=True)
    assert found == RerankRequest(query="q", documents=BOTH, model="m", top_n=2, return_documents=True)


@pytest.mark.parametrize(
    "fields",
    [
        {"model": "jina-reranker-v1-base-en", "top_n": 3},
        {"model": "jina-reranker-v2-base-multilingual", "top_n": None, "return_documents": None},
        {"model": "m", "top_n": 2, "return_documents": "true"},
    ],
    ids=["LangChain, Haystack", "Dify's nulls", "a boolean in a string"],
)
def test_what_clients_send_asks_for_documents(fields: dict[str, Any]) -> None:
    found = parsed(**fields)
    expected = RerankRequest(
        query="q", documents=BOTH, model=fields["model"], top_n=fields["top_n"], return_documents=True
    )
    assert found == expected


@pytest.mark.parametrize("said", [False, "false"])
def test_documents_stay_away_where_the_client_says_no(said: object) -> None:
    assert parsed(return_documents=said).return_documents is False


def test_a_query_may_be_an_object_that_holds_a_text_and_no_image() -> None:
    assert parsed(query={"text": "what"}).query == "what"
    with pytest.raises(BadRequest) as caught:
        parsed(query={"image": "https://example.com/a.png"})
    assert caught.value.param == "query"


def test_a_document_without_a_text_is_named() -> None:
    with pytest.raises(BadRequest) as caught:
        parsed(documents=["a", {"image": "https://example.com/a.png"}])
    assert caught.value.param == "documents[1]"


def test_the_newer_fields_are_read() -> None:
    found = parsed(return_embeddings=True, max_doc_length=64, truncation=False)
    assert (found.return_embeddings, found.max_tokens_per_doc, found.truncation) == (True, 64, False)
    assert parsed(max_doc_length=0).max_tokens_per_doc is None


def test_an_old_new_apis_top_n_of_0_means_all_and_a_negative_one_is_named() -> None:
    assert parsed(top_n=0).top_n is None
    with pytest.raises(BadRequest) as caught:
        parsed(top_n=-1)
    assert caught.value.param == "top_n"


def test_a_request_to_an_upstream_says_whether_documents_are_wanted_and_else_only_what_was_asked() -> None:
    body = json.loads(Jina().render_request(request_for("a", "b", model="m")))
    assert body == {"model": "m", "query": "q", "documents": ["a", "b"], "return_documents": False}


def test_a_real_answer_is_written() -> None:
    results = (Result(1, 0.9, Document("b")), Result(0, -0.1, Document("a", {"text": "a", "id": 7}), (0.5, 1.0)))
    response = RerankResponse(model="m", results=results, usage=Usage(prompt_tokens=12))
    assert json.loads(Jina().render_response(response, request_for("a", "b"), CALL)) == {
        "model": "m",
        "object": "list",
        "usage": {"prompt_tokens": 12, "completion_tokens": 0, "total_tokens": 12, **NO_USAGE_DETAILS},
        "results": [
            {"index": 1, "relevance_score": 0.9, "document": {"text": "b"}},
            {"index": 0, "relevance_score": -0.1, "document": {"text": "a", "id": 7}, "embedding": [0.5, 1.0]},
        ],
    }


def test_what_was_not_asked_for_is_absent_rather_than_null() -> None:
    response = RerankResponse(model="m", results=(Result(0, 0.5),), usage=Usage(prompt_tokens=1))
    body = json.loads(Jina().render_response(response, request_for("a"), CALL))
    assert body["results"] == [{"index": 0, "relevance_score": 0.5}]


@pytest.mark.parametrize(
    ("answer", "model", "tokens", "documents"),
    [
        (
            {
                "model": "jina-reranker-v2-base-multilingual",
                "object": "list",
                "usage": {"total_tokens": 12},
                "results": [
                    {"index": 1, "relevance_score": 0.9, "document": {"text": "b"}},
                    {"index": 0, "relevance_score": 0.1, "document": {"text": "a"}},
                ],
            },
            "jina-reranker-v2-base-multilingual",
            12,
            ["b", "a"],
        ),
        (
            {
                "results": [
                    {"document": {"text": "b"}, "index": 1, "relevance_score": 0.9},
                    {"document": {"text": "a"}, "index": 0, "relevance_score": 0.1},
                ],
                "usage": {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 12, **NO_USAGE_DETAILS},
            },
            "asked",
            12,
            ["b", "a"],
        ),
        (
            {
                "results": [
                    {"document": {"text": "b"}, "index": 1, "relevance_score": 0.9},
                    {"document": {"text": "a"}, "index": 0, "relevance_score": 0.1},
                ],
                "usage": {
                    "prompt_tokens": 12,
                    "completion_tokens": 0,
                    "total_tokens": 12,
                    "prompt_tokens_details": {"cached_tokens_details": {}},
                    "completion_tokens_details": {},
                },
            },
            "asked",
            12,
            ["b", "a"],
        ),
        (
            {
                "model": "m",
                "usage": {"prompt_tokens": 12, "completion_tokens": 0, "total_tokens": 12},
                "results": [
                    {"index": 1, "document": {"text": ""}, "relevance_score": 0.9},
                    {"index": 0, "document": {"text": ""}, "relevance_score": 0.1},
                ],
            },
            "m",
            12,
            ["", ""],
        ),
        (
            {
                "model": "m",
                "usage": {"total_tokens": 12, "prompt_tokens": 12},
                "results": [
                    {"index": 1, "document": {"text": "b"}, "relevance_score": 0.9},
                    {"index": 0, "document": None, "relevance_score": 0.1},
                ],
            },
            "m",
            12,
            ["b", None],
        ),
        (
            {
                "model": "m",
                "usage": None,
                "results": [
                    {"index": 1, "document": "b", "relevance_score": 0.9},
                    {"index": 0, "relevance_score": 0.1},
                ],
            },
            "m",
            0,
            ["b", None],
        ),
    ],
    ids=["Jina", "New API", "DMXAPI", "one-hub", "LocalAI", "GPUStack"],
)
def test_real_answers_are_read(answer: dict[str, Any], model: str, tokens: int, documents: list[str | None]) -> None:
    found = read(answer)
    assert [(result.index, result.relevance_score) for result in found.results] == [(1, 0.9), (0, 0.1)]
    assert [result.document.text if result.document else None for result in found.results] == documents
    assert (found.model, found.usage.prompt_tokens) == (model, tokens)
    assert found.usage.estimated == (answer["usage"] is None)


def test_what_an_upstream_took_from_its_cache_and_an_embedding_are_read() -> None:
    usage = {"prompt_tokens": 12, "total_tokens": 12, "prompt_tokens_details": {"cached_tokens": 5}}
    found = read({"results": [{"index": 0, "relevance_score": 0.5, "embedding": [0.5, 1]}], "usage": usage})
    assert found.usage == Usage(prompt_tokens=12, cached_tokens=5)
    assert found.results == (Result(0, 0.5, None, (0.5, 1.0)),)


@pytest.mark.parametrize("answer", [{"detail": "No."}, {"results": [{"index": "0", "relevance_score": 0.5}]}])
def test_an_error_with_status_200_and_an_index_in_a_string_are_malformed(answer: dict[str, Any]) -> None:
    with pytest.raises(UpstreamMalformed):
        read(answer)


@pytest.mark.parametrize(
    ("error", "status"),
    [(BadRequest("No."), 400), (Unauthenticated("No."), 401), (ModelNotFound("No."), 404), (RateLimited("No."), 429)],
)
def test_an_error_has_the_detail_that_langchain_and_haystack_read(error: Exception, status: int) -> None:
    found, body = Jina().render_error(error, "the-request")  # type: ignore[arg-type]
    assert (found, json.loads(body)) == (status, {"detail": "No."})


@pytest.mark.parametrize(
    "body",
    [
        {"detail": "No."},
        {"error": {"message": "No.", "type": "new_api_error", "param": "", "code": "model_not_found"}},
        {"message": "No."},
    ],
    ids=["Jina, one-hub", "New API", "Cohere"],
)
def test_errors_of_those_who_answer_like_jina_are_read(body: dict[str, Any]) -> None:
    error = Jina().parse_error(429, {"retry-after": "3"}, json.dumps(body).encode())
    assert (type(error), error.message, error.retry_after) == (RateLimited, "No.", 3.0)


def test_no_balance_is_the_callers_to_mend() -> None:
    error = Jina().parse_error(402, {}, b'{"detail": "Insufficient balance."}')
    assert isinstance(error, ClientError)
    assert error.message == "Insufficient balance."
