"""POST /v1/rerank against the examples of New API (seeds 001 and 002) and DMXAPI (seed 004)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given

from rerankd.dialects.superset import Superset
from rerankd.types import Call, Document, RerankRequest, RerankResponse, Result, Usage
from tests.conftest import request_for
from tests.dialects.losses import response_without
from tests.dialects.strategies import RESPONSES

CALL = Call("the-request", created=1_700_000_000)
SKINCARE = (
    "Organic skincare for sensitive skin with aloe vera and chamomile...",
    "New makeup trends focus on bold colors and innovative techniques...",
    "Bio-Hautpflege für empfindliche Haut mit Aloe Vera und Kamille...",
)
COLD = (
    "预防感冒应勤洗手、戴口罩，保持室内通风（来源：协和医院研究）",
    "流感疫苗每年10月接种最佳，可降低70%感染风险（来源：卫健委2024指南）",
    "维生素C对感冒的预防效果存在争议（来源：JAMA医学期刊）",
)
NEW_API: dict[str, Any] = {
    "results": [
        {"document": {"text": SKINCARE[0]}, "index": 0, "relevance_score": 0.8783142566680908},
        {"document": {"text": SKINCARE[2]}, "index": 2, "relevance_score": 0.7624675869941711},
    ],
    "usage": {"prompt_tokens": 815, "completion_tokens": 0, "total_tokens": 815},
}
DMXAPI: dict[str, Any] = {
    "results": [
        {"document": {"text": COLD[0]}, "index": 0, "relevance_score": 0.9692660692486923},
        {"document": {"text": COLD[1]}, "index": 1, "relevance_score": 0.1512783992888788},
        {"document": {"text": COLD[2]}, "index": 4, "relevance_score": 0.028598360546466143},
    ],
    "usage": {
        "prompt_tokens": 0,
        "completion_tokens": 0,
        "total_tokens": 0,
        "prompt_tokens_details": {"cached_tokens_details": {}},
        "completion_tokens_details": {},
    },
}


def response(*results: Result, tokens: int = 0, cached: int = 0, warnings: tuple[str, ...] = ()) -> RerankResponse:
    usage = Usage(prompt_tokens=tokens, cached_tokens=cached)
    return RerankResponse(model="m", results=results, usage=usage, warnings=warnings)


def rendered(answer: RerankResponse, request: RerankRequest | None = None) -> Any:
    return json.loads(Superset().render_response(answer, request or request_for(), CALL))


def holds(whole: Any, part: Any) -> bool:
    """Whether `whole` has everything that `part` has."""
    if isinstance(part, dict):
        return all(name in whole and holds(whole[name], value) for name, value in part.items())
    if isinstance(part, list):
        return len(whole) == len(part) and all(map(holds, whole, part))
    return bool(whole == part)


def has_null(value: Any) -> bool:
    if isinstance(value, dict | list):
        return any(map(has_null, value.values() if isinstance(value, dict) else value))
    return value is None


@pytest.mark.parametrize(
    ("model", "query", "texts"),
    [
        ("jina-reranker-v2-base-multilingual", "Organic skincare products for sensitive skin", SKINCARE),
        ("BAAI/bge-reranker-v2-m3", "如何预防感冒", ("预防感冒应勤洗手、戴口罩...", "流感疫苗每年10月接种最佳...")),
    ],
    ids=["New API", "DMXAPI"],
)
def test_the_example_requests_are_understood(model: str, query: str, texts: tuple[str, ...]) -> None:
    body = {"model": model, "query": query, "top_n": 3, "documents": texts}
    documents = tuple(map(Document, texts))
    expected = RerankRequest(query=query, documents=documents, model=model, top_n=3, return_documents=True)
    assert Superset().parse_request(json.dumps(body).encode()) == expected


@pytest.mark.parametrize("example", [NEW_API, DMXAPI], ids=["New API", "DMXAPI"])
def test_everything_in_an_example_answer_is_in_ours(example: dict[str, Any]) -> None:
    results = [
        Result(row["index"], row["relevance_score"], Document(row["document"]["text"])) for row in example["results"]
    ]
    assert holds(rendered(response(*results, tokens=example["usage"]["total_tokens"])), example)


def test_the_examples_here_are_those_of_the_documents(shared: Path) -> None:
    for seed, example in (("002", NEW_API), ("004", DMXAPI)):
        written = next((shared / "seeds").glob(f"{seed}_*.txt")).read_text(encoding="utf-8")
        answers = written[written.index('"results"') :]
        assert holds(json.JSONDecoder().raw_decode("{" + answers)[0], example)


def test_documents_come_back_unless_the_client_says_no() -> None:
    for said, meant in (({}, True), ({"return_documents": True}, True), ({"return_documents": False}, False)):
        body = {"query": "q", "documents": ["a"], **said}
        assert Superset().parse_request(json.dumps(body).encode()).return_documents is meant


def test_a_document_is_an_object_and_it_and_an_embedding_are_absent_rather_than_null() -> None:
    whole, bare = rendered(response(Result(0, 0.5, Document("a"), (0.5, 1.0)), Result(1, 0.25)))["results"]
    assert whole == {"index": 0, "relevance_score": 0.5, "document": {"text": "a"}, "embedding": [0.5, 1.0]}
    assert bare == {"index": 1, "relevance_score": 0.25}


@given(RESPONSES)
def test_nothing_in_an_answer_is_ever_null(answer: RerankResponse) -> None:
    assert not has_null(rendered(response_without({"documents.fields"}, answer)))  # a client's own nulls are its own


def test_usage_is_the_long_one_with_every_detail() -> None:
    assert rendered(response(tokens=815, cached=15))["usage"] == {
        "prompt_tokens": 815,
        "completion_tokens": 0,
        "total_tokens": 815,
        "prompt_tokens_details": {"cached_tokens": 15, "audio_tokens": 0, "cached_tokens_details": {}},
        "completion_tokens_details": {
            "reasoning_tokens": 0,
            "audio_tokens": 0,
            "accepted_prediction_tokens": 0,
            "rejected_prediction_tokens": 0,
        },
    }


def test_the_answer_says_what_it_is_whose_and_from_when() -> None:
    answer = rendered(response())
    assert (answer["object"], answer["id"], answer["created"]) == ("rerank", "the-request", 1_700_000_000)


@pytest.mark.parametrize(("documents", "units"), [(1, 1), (100, 1), (101, 2), (1000, 10)])
def test_coheres_search_units_are_a_hundred_documents_each(documents: int, units: int) -> None:
    request = request_for(*["a"] * documents)
    assert rendered(response(tokens=9), request)["meta"] == {
        "api_version": {"version": "1"},
        "billed_units": {"search_units": units},
        "tokens": {"input_tokens": 9, "output_tokens": 0},
    }


def test_warnings_stand_where_cohere_has_them() -> None:
    assert rendered(response(warnings=("cut", "cut again")))["meta"]["warnings"] == ["cut", "cut again"]


def test_a_request_without_a_model_is_promised_jina_reranker_v2() -> None:
    assert Superset().parse_request(b'{"query": "q", "documents": ["a"]}').model is None
    assert Superset().default_model == "jina-reranker-v2-base-multilingual"


def test_whether_documents_are_wanted_is_always_said_upstream() -> None:
    for wanted in (True, False):
        body = json.loads(Superset().render_request(request_for("a", return_documents=wanted)))
        assert body == {"query": "q", "documents": ["a"], "return_documents": wanted}


@pytest.mark.parametrize(
    ("answer", "tokens"),
    [
        ({"results": [{"index": 0, "relevance_score": 1}], "usage": {"prompt_tokens": 0, "total_tokens": 815}}, 815),
        ({"model": None, "results": [{"index": 0, "relevance_score": 1, "document": None}], "usage": None}, 0),
        (
            {
                "results": [{"index": 0, "relevance_score": 1, "document": "a"}],
                "meta": None,
                "usage": {"total_tokens": 3},
            },
            3,
        ),
    ],
)
def test_answers_of_servers_that_leave_parts_out_are_read(answer: dict[str, object], tokens: int) -> None:
    request = RerankRequest(query="q", documents=(Document("a"),), model="asked")
    parsed = Superset().parse_response(json.dumps(answer).encode(), {}, request)
    assert (parsed.model, parsed.usage.prompt_tokens) == ("asked", tokens)
    assert parsed.usage.estimated == (answer["usage"] is None)
