"""POST /v1/rerank, as xinference-client, RAGFlow and llama-index speak it to Xinference."""

from __future__ import annotations

import json
from typing import Any

import pytest

from rerankd.dialects.xinference import Xinference
from rerankd.errors import BadRequest, EngineError, ModelNotFound, RerankError, Unauthenticated
from rerankd.types import Call, Document, RerankRequest, RerankResponse, Result, Usage
from tests.conftest import request_for

AB = (Document("a"), Document("b"))
CALL = Call("the-request")


def parsed(**fields: Any) -> RerankRequest:
    body = {"model": "m", "query": "q", "documents": ["a", "b"], **fields}
    return Xinference().parse_request(json.dumps(body).encode())


def written(*results: Result, warnings: tuple[str, ...] = ()) -> dict[str, Any]:
    response = RerankResponse(model="m", results=results, usage=Usage(prompt_tokens=12), warnings=warnings)
    body: dict[str, Any] = json.loads(Xinference().render_response(response, request_for("a", "b"), CALL))
    return body


def read(body: object) -> RerankResponse:
    return Xinference().parse_response(json.dumps(body).encode(), {}, request_for("a", "b", model="m"))


def test_the_nulls_of_its_client_are_absent() -> None:
    nulls = dict.fromkeys(("top_n", "max_chunks_per_doc", "return_documents", "return_len"))
    assert parsed(**nulls, kwargs="{}") == RerankRequest(query="q", documents=AB, model="m")


def test_ragflows_strings_for_booleans_are_heard() -> None:
    wanted = RerankRequest(query="q", documents=AB, model="m", return_documents=True)
    assert parsed(return_documents="true", return_len="true") == wanted
    assert not parsed(return_documents="false").return_documents


@pytest.mark.parametrize(
    "fields",
    [
        {"instruction": "i"},
        {"kwargs": '{"instruction": "i"}'},
        {"instruction": "i", "kwargs": '{"instruction": "other", "more": [1]}'},
    ],
)
def test_an_instruction_is_found_beside_the_fields_and_in_kwargs(fields: dict[str, str]) -> None:
    assert parsed(**fields).instruction == "i"


@pytest.mark.parametrize("kwargs", ["{", "[]", {"instruction": "i"}])
def test_kwargs_that_hold_no_json_object_are_refused(kwargs: object) -> None:
    with pytest.raises(BadRequest):
        parsed(kwargs=kwargs)


def test_what_the_real_server_refuses_is_done() -> None:
    assert parsed(max_chunks_per_doc=3).max_chunks_per_doc == 3
    assert parsed(max_chunks_per_doc=0).max_chunks_per_doc is None


def test_a_request_asks_for_the_tokens_and_puts_the_instruction_into_kwargs() -> None:
    body = json.loads(Xinference().render_request(RerankRequest(query="q", documents=AB, model="m", instruction="i")))
    assert json.loads(body.pop("kwargs")) == {"instruction": "i"}
    assert body == {"model": "m", "query": "q", "documents": ["a", "b"], "return_len": True}


def test_a_real_answer_is_written_with_its_nulls() -> None:
    assert written(Result(1, 0.9)) == {
        "id": "the-request",
        "results": [{"index": 1, "relevance_score": 0.9, "document": None}],
        "meta": {
            "api_version": None,
            "billed_units": None,
            "tokens": {"input_tokens": 12, "output_tokens": 0},
            "warnings": None,
        },
    }


def test_documents_and_warnings_are_written_where_there_are_some() -> None:
    body = written(Result(1, 0.9, Document("b")), warnings=("It was cut.",))
    assert body["results"][0]["document"] == {"text": "b"}
    assert body["meta"]["warnings"] == ["It was cut."]


def test_a_real_answer_is_read() -> None:
    nulls = dict.fromkeys(("api_version", "billed_units", "tokens", "warnings"))
    results = [
        {"index": 1, "relevance_score": 0.9, "document": {"text": "b"}},
        {"index": 0, "relevance_score": 0.1, "document": None},
    ]
    assert read({"id": "1", "results": results, "meta": nulls}) == RerankResponse(
        model="m",
        results=(Result(1, 0.9, Document("b")), Result(0, 0.1)),
        usage=Usage(prompt_tokens=0, estimated=True),
    )


def test_an_older_servers_answer_is_read() -> None:
    tokens = {"input_tokens": 12, "output_tokens": 12}
    answer = read({"results": [{"index": 0, "relevance_score": 0.5, "document": "a"}], "meta": {"tokens": tokens}})
    assert answer.results == (Result(0, 0.5, Document("a")),)
    assert answer.usage == Usage(prompt_tokens=12)


@pytest.mark.parametrize(
    ("error", "status"),
    [(BadRequest("No."), 400), (Unauthenticated("No."), 401), (ModelNotFound("No."), 404), (EngineError("No."), 500)],
)
def test_an_error_is_a_detail(error: RerankError, status: int) -> None:
    found, body = Xinference().render_error(error, "the-request")
    assert (found, json.loads(body)) == (status, {"detail": "No."})


def test_the_real_servers_error_is_read() -> None:
    error = Xinference().parse_error(400, {}, b'{"detail":"Model not found in the model list, uid: m"}')
    assert (type(error), error.message) == (BadRequest, "Model not found in the model list, uid: m")
