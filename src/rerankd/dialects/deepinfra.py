"""DeepInfra's inference API, called only: pairs go out, and one score for each comes back, in the order of the request.

The query is repeated for each document, the model is in the path, and no document ever comes back.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from rerankd.dialects.base import Codec
from rerankd.dialects.decoding import decode_answer
from rerankd.dialects.error_bodies import message_in
from rerankd.dialects.results import Count, usage_of
from rerankd.dialects.statuses import error_of, read
from rerankd.errors import RerankError
from rerankd.types import RerankRequest, RerankResponse, Result


class DeepInfraRequest(msgspec.Struct, omit_defaults=True):
    queries: list[str]
    documents: list[str]
    instruction: str | None = None


class InferenceStatus(msgspec.Struct):
    tokens_input: Count | None = None


class DeepInfraAnswer(msgspec.Struct):
    scores: list[float]
    input_tokens: Count | None = None
    inference_status: InferenceStatus | None = None


class Refusal(msgspec.Struct):
    error: str


class DeepInfraError(msgspec.Struct):
    detail: Refusal


_answers = msgspec.json.Decoder(DeepInfraAnswer)
_errors = msgspec.json.Decoder(DeepInfraError)


class DeepInfra(Codec):
    name = "deepinfra"
    title = "DeepInfra"
    paths = ("/v1/inference/{model}",)
    request_losses: Mapping[str, object] = {
        "documents.fields": None,
        "top_n": None,
        "return_documents": False,
        "return_embeddings": False,
        "max_tokens_per_doc": None,
        "max_chunks_per_doc": None,
        "overlap_tokens": None,
        "truncation": True,
        "raw_scores": None,
        "priority": "interactive",
        "unread": (),
    }
    response_losses = frozenset(
        {
            "model",
            "results.document",
            "results.embedding",
            "results.order",
            "usage.cached_tokens",
            "usage.estimated",
            "usage.search_units",
            "warnings",
        }
    )

    def render_request(self, request: RerankRequest) -> bytes:
        texts = [document.text for document in request.documents]
        return msgspec.json.encode(DeepInfraRequest([request.query] * len(texts), texts, request.instruction))

    def parse_response(self, body: bytes, headers: Mapping[str, str], request: RerankRequest) -> RerankResponse:
        answer = decode_answer(_answers, body)
        status = answer.inference_status or InferenceStatus()
        return RerankResponse(
            model=request.model or "",
            results=tuple(Result(index, score) for index, score in enumerate(answer.scores)),
            usage=usage_of(answer.input_tokens, status.tokens_input),
        )

    def parse_error(self, status: int, headers: Mapping[str, str], body: bytes) -> RerankError:
        found = read(_errors, body)
        return error_of(status, headers, found.detail.error if found else message_in(body))
