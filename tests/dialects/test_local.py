"""POST /rerank against the examples of jina-reranker-v3's own document (seed 000)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest

from rerankd.dialects.local import Local
from rerankd.errors import BadRequest
from rerankd.types import Call, Document, RerankRequest, RerankResponse, Result, Usage

QUERY = "What is the capital of France?"
TEXTS = ("The sky is blue.", "Paris is the capital of France.", "I like to eat pizza.")
REQUEST = RerankRequest(query=QUERY, documents=tuple(map(Document, TEXTS)), top_n=3, return_documents=True)
CALL = Call("the-request")
EXAMPLE: dict[str, Any] = {
    "model": "jina-reranker-v3",
    "usage": {"total_tokens": 0},
    "results": [
        {"index": 1, "relevance_score": 0.4472096860408783, "document": TEXTS[1], "embedding": None},
        {"index": 0, "relevance_score": -0.09588069468736649, "document": TEXTS[0], "embedding": None},
        {"index": 2, "relevance_score": -0.1339346468448639, "document": TEXTS[2], "embedding": None},
    ],
}
AS_WRITTEN = b"""{
    "query": "What is the capital of France?",
    "documents": [
        "The sky is blue.",              # index 0
        "Paris is the capital of France."
    ],
    "return_documents": True
}"""


def response(*results: Result, tokens: int = 0) -> RerankResponse:
    return RerankResponse(model="jina-reranker-v3", results=results, usage=Usage(prompt_tokens=tokens))


def rendered(answer: RerankResponse) -> Any:
    return json.loads(Local().render_response(answer, REQUEST, CALL))


def test_the_documents_example_request_is_understood() -> None:
    body = {"query": QUERY, "documents": list(TEXTS), "top_n": 3, "return_documents": True}
    assert Local().parse_request(json.dumps(body).encode()) == REQUEST


def test_the_documents_example_answer_is_given_to_the_letter() -> None:
    results = [Result(row["index"], row["relevance_score"], Document(row["document"])) for row in EXAMPLE["results"]]
    body = Local().render_response(response(*results), REQUEST, CALL)
    assert json.dumps(json.loads(body)) == json.dumps(EXAMPLE)


def test_the_documents_example_answer_can_be_read() -> None:
    answer = Local().parse_response(json.dumps(EXAMPLE).encode(), {}, REQUEST)
    assert [(result.index, result.relevance_score, result.document) for result in answer.results] == [
        (1, 0.4472096860408783, Document(TEXTS[1])),
        (0, -0.09588069468736649, Document(TEXTS[0])),
        (2, -0.1339346468448639, Document(TEXTS[2])),
    ]


def test_the_example_here_is_that_of_the_document(shared: Path) -> None:
    written = next((shared / "seeds").glob("000_*.txt")).read_text(encoding="utf-8")
    answer = written[written.rindex('{\n      "model"') : written.rindex("}") + 1]
    assert json.loads(answer) == EXAMPLE
    assert all(line.strip().decode() in written for line in AS_WRITTEN.splitlines())


def test_the_request_as_the_document_writes_it_is_no_json_and_the_answer_says_where() -> None:
    with pytest.raises(BadRequest, match="line 4, column 42: JSON has no comments"):
        Local().parse_request(AS_WRITTEN)


def test_a_document_is_a_plain_string_and_there_only_when_it_was_asked_for() -> None:
    with_document, without = rendered(response(Result(0, 0.5, Document("a")), Result(1, 0.25)))["results"]
    assert with_document["document"] == "a"
    assert "document" not in without


def test_an_embedding_is_always_there_and_null_where_there_is_none() -> None:
    with_embedding, without = rendered(response(Result(0, 0.5, None, (0.5, 1.0)), Result(1, 0.25)))["results"]
    assert with_embedding["embedding"] == [0.5, 1.0]
    assert without["embedding"] is None


def test_usage_is_total_tokens_alone() -> None:
    assert rendered(response(tokens=42))["usage"] == {"total_tokens": 42}


def test_documents_do_not_come_back_unless_they_are_asked_for() -> None:
    assert Local().parse_request(b'{"query": "q", "documents": ["a"]}').return_documents is False


def test_a_request_without_a_model_is_promised_jina_reranker_v3() -> None:
    assert Local().parse_request(b'{"query": "q", "documents": ["a"]}').model is None
    assert Local().default_model == "jina-reranker-v3"


def test_what_was_not_asked_for_is_not_sent_upstream() -> None:
    request = RerankRequest(query="q", documents=(Document("a"),))
    assert json.loads(Local().render_request(request)) == {"query": "q", "documents": ["a"]}


def test_embeddings_are_asked_for_upstream() -> None:
    request = msgspec.structs.replace(REQUEST, return_embeddings=True)
    assert json.loads(Local().render_request(request))["return_embeddings"] is True
