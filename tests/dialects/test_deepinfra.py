"""POST /v1/inference/{model}, as DeepInfra answers it."""

from __future__ import annotations

import json
from typing import Any

import pytest

from rerankd.dialects.deepinfra import DeepInfra
from rerankd.errors import BadRequest, NotFound, RateLimited, RerankError, Unauthenticated, UpstreamMalformed
from rerankd.types import RerankRequest, RerankResponse, Result, Usage
from tests.conftest import request_for

ASKED = request_for("a", "b", model="asked")
STATUS = {"status": "unknown", "runtime_ms": 0, "cost": 0.0, "tokens_generated": 0, "output_length": 0}


def read(body: object) -> RerankResponse:
    return DeepInfra().parse_response(json.dumps(body).encode(), {}, ASKED)


def test_the_query_is_repeated_for_each_document() -> None:
    assert json.loads(DeepInfra().render_request(ASKED)) == {"queries": ["q", "q"], "documents": ["a", "b"]}


def test_an_instruction_goes_along() -> None:
    request = RerankRequest(query="q", documents=ASKED.documents, instruction="i")
    assert json.loads(DeepInfra().render_request(request))["instruction"] == "i"


@pytest.mark.parametrize(
    ("usage", "counted"),
    [
        ({"input_tokens": 42}, Usage(prompt_tokens=42)),
        ({"input_tokens": 42, "inference_status": {**STATUS, "tokens_input": 7}}, Usage(prompt_tokens=42)),
        ({"input_tokens": 0, "inference_status": {**STATUS, "tokens_input": 7}}, Usage(prompt_tokens=7)),
        ({"inference_status": {**STATUS, "tokens_input": 7}}, Usage(prompt_tokens=7)),
        ({"inference_status": None}, Usage(prompt_tokens=0, estimated=True)),
    ],
)
def test_scores_are_in_the_order_of_the_request(usage: dict[str, Any], counted: Usage) -> None:
    found = read({"scores": [0.1, 0.9], "request_id": None, **usage})
    assert found == RerankResponse(model="asked", results=(Result(0, 0.1), Result(1, 0.9)), usage=counted)


@pytest.mark.parametrize("body", [{}, {"scores": None}, {"scores": ["0.1"]}, {"scores": [None]}, {"scores": 0.1}])
def test_what_are_no_scores_is_malformed(body: object) -> None:
    with pytest.raises(UpstreamMalformed):
        read(body)


@pytest.mark.parametrize(
    ("status", "body", "kind"),
    [
        (401, {"detail": {"error": "No."}}, Unauthenticated),
        (404, {"error": "No."}, NotFound),
        (429, {"detail": "No."}, RateLimited),
        (422, {"detail": [{"type": "missing", "msg": "No."}]}, BadRequest),
        (400, {"error": {"message": "No."}}, BadRequest),
    ],
)
def test_a_real_error_is_read(status: int, body: object, kind: type[RerankError]) -> None:
    found = DeepInfra().parse_error(status, {}, json.dumps(body).encode())
    assert (type(found), found.message) == (kind, "No.")
