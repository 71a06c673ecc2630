"""NVIDIA's rerank NIM, self-hosted and on NVIDIA's API: texts are objects, scores are logits, and documents never come back.

The format has no field for how many results a client wants, so that none is sent: a NIM refuses a field that it does not
know. Some clients send `top_n` or `top_k` all the same, and are heard. A text that is too long is an error unless `truncate`
is END.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from rerankd.dialects.base import Codec
from rerankd.dialects.decoding import decode, decode_answer, reader
from rerankd.dialects.error_bodies import message_in
from rerankd.dialects.fields import EXPECTED, TextField, documents_of, query_of, top_n_of
from rerankd.dialects.openai_shapes import AnswerUsage, TokenUsage, counted, token_usage
from rerankd.dialects.statuses import error_of
from rerankd.errors import RerankError
from rerankd.types import Call, RerankRequest, RerankResponse, Result


class NvidiaRequest(msgspec.Struct, omit_defaults=True):
    model: str | None = None
    query: TextField | None = None
    passages: list[TextField] | None = None
    truncate: Annotated[
        Literal["NONE", "END"] | None,
        Meta(description="NONE, as without it: what is too long for the model is an error."),
    ] = None
    top_n: Annotated[int | None, Meta(description="Not of the format; some clients send it.")] = None
    top_k: Annotated[int | None, Meta(description="As `top_n`.")] = None


class Ranking(msgspec.Struct):
    index: int
    logit: float


class NvidiaResponse(msgspec.Struct):
    """Passages in order of relevance, best first."""

    rankings: list[Ranking]
    usage: TokenUsage


class NvidiaError(msgspec.Struct):
    error: str


class NvidiaAnswer(msgspec.Struct):
    rankings: list[Ranking]
    usage: AnswerUsage | None = None


OBJECTS = {**EXPECTED, "query": 'an object {"text": string}', "truncate": '"NONE" or "END"'}

_requests = reader(NvidiaRequest)
_answers = msgspec.json.Decoder(NvidiaAnswer)


class Nvidia(Codec):
    name = "nvidia"
    title = "NVIDIA NIM"
    paths = ("/v1/ranking", "/v1/retrieval/{model}/reranking")
    request_losses: Mapping[str, object] = {
        "documents.fields": None,
        "top_n": None,
        "return_documents": False,
        "return_embeddings": False,
        "instruction": None,
        "max_tokens_per_doc": None,
        "max_chunks_per_doc": None,
        "overlap_tokens": None,
        "raw_scores": True,
        "priority": "interactive",
        "unread": (),
    }
    response_losses = frozenset(
        {
            "model",
            "results.document",
            "results.embedding",
            "usage.cached_tokens",
            "usage.estimated",
            "usage.search_units",
            "warnings",
        }
    )

    def parse_request(self, body: bytes) -> RerankRequest:
        fields = decode(_requests, body, OBJECTS)
        top_n, param = (fields.top_k, "top_k") if fields.top_n is None else (fields.top_n, "top_n")
        return RerankRequest(
            query=query_of(fields.query),
            documents=documents_of(fields.passages, "passages"),
            model=fields.model,
            top_n=top_n_of(top_n, param),
            truncation=fields.truncate == "END",
            raw_scores=True,
        )

    def render_request(self, request: RerankRequest) -> bytes:
        return msgspec.json.encode(
            NvidiaRequest(
                model=request.model,
                query={"text": request.query},
                passages=[{"text": document.text} for document in request.documents],
                truncate="END" if request.truncation else "NONE",
            )
        )

    def render_response(self, response: RerankResponse, request: RerankRequest, call: Call) -> bytes:
        rankings = [Ranking(result.index, result.relevance_score) for result in response.results]
        return msgspec.json.encode(NvidiaResponse(rankings, token_usage(response.usage)))

    def parse_response(self, body: bytes, headers: Mapping[str, str], request: RerankRequest) -> RerankResponse:
        answer = decode_answer(_answers, body)
        return RerankResponse(
            model=request.model or "",
            results=tuple(Result(ranking.index, ranking.logit) for ranking in answer.rankings),
            usage=counted(answer.usage),
        )

    def render_error(self, error: RerankError, request_id: str) -> tuple[int, bytes]:
        return error.status, msgspec.json.encode(NvidiaError(error.message))

    def parse_error(self, status: int, headers: Mapping[str, str], body: bytes) -> RerankError:
        return error_of(status, headers, message_in(body))

    def schemas(self) -> tuple[Any, Any]:
        return NvidiaRequest, NvidiaResponse
