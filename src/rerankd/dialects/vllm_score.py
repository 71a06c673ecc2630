"""vLLM's POST /v1/score and /score: one query and texts, each scored, and answered in the order in which they came.

The two sides go by four pairs of names, and each may be a list. The server also takes as many queries as texts and scores
them in pairs; what is ranked here has one query, so that these must all be the same.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import msgspec

from rerankd.dialects import openai_shapes, vllm_shapes
from rerankd.dialects.base import Codec
from rerankd.dialects.decoding import decode, decode_answer, reader
from rerankd.dialects.fields import EXPECTED, TextField, documents_of, query_of
from rerankd.dialects.openai_shapes import AnswerUsage, TokenUsage, counted, token_usage
from rerankd.dialects.vllm_shapes import VllmOptions
from rerankd.errors import BadRequest, RerankError
from rerankd.types import Call, Document, RerankRequest, RerankResponse, Result

Side = str | dict[str, Any] | list[TextField]

QUERIES = ("text_1", "data_1", "queries")
DOCUMENTS = ("text_2", "data_2", "documents", "items")

SENTENCES = {
    **EXPECTED,
    **dict.fromkeys(QUERIES, "a non-empty string, or a list with one"),
    **dict.fromkeys(DOCUMENTS, f"a string, or {EXPECTED['documents']}"),
}


class VllmScoreRequest(VllmOptions, omit_defaults=True):
    """`text_1` is the query, `text_2` what is scored for it; the other names mean the same."""

    text_1: Side | None = None
    text_2: Side | None = None
    data_1: Side | None = None
    data_2: Side | None = None
    queries: Side | None = None
    documents: Side | None = None
    items: Side | None = None


class Score(msgspec.Struct):
    index: int
    score: float
    object: Literal["score"] = "score"


class VllmScoreResponse(msgspec.Struct, kw_only=True):
    """Scores in the order of the texts."""

    id: str
    object: Literal["list"] = "list"
    created: int
    model: str
    data: list[Score]
    usage: TokenUsage


class AnswerScore(msgspec.Struct):
    index: int
    score: float


class VllmScoreAnswer(msgspec.Struct):
    data: list[AnswerScore]
    model: str | None = None
    usage: AnswerUsage | None = None


_requests = reader(VllmScoreRequest)
_responses = msgspec.json.Decoder(VllmScoreAnswer)


class VllmScore(Codec):
    name = "vllm_score"
    title = "vLLM's score"
    prefix = "vllm"
    paths = ("/v1/score", "/score")
    request_losses: Mapping[str, object] = {**vllm_shapes.REQUEST_LOSSES, "top_n": None, "return_documents": False}
    response_losses = openai_shapes.RESPONSE_LOSSES | {"results.document", "results.order"}

    def parse_request(self, body: bytes) -> RerankRequest:
        fields = decode(_requests, body, SENTENCES)
        return vllm_shapes.parse(fields, *_sides(fields))

    def render_request(self, request: RerankRequest) -> bytes:
        """The two names are those that every version of the server knows."""
        texts = [document.text for document in request.documents]
        return vllm_shapes.render(VllmScoreRequest, request, text_1=request.query, text_2=texts)

    def render_response(self, response: RerankResponse, request: RerankRequest, call: Call) -> bytes:
        return msgspec.json.encode(
            VllmScoreResponse(
                id=f"score-{call.request_id}",
                created=call.created,
                model=request.model or response.model,
                data=sorted(
                    (Score(result.index, result.relevance_score) for result in response.results),
                    key=lambda score: score.index,
                ),
                usage=token_usage(response.usage),
            )
        )

    def parse_response(self, body: bytes, headers: Mapping[str, str], request: RerankRequest) -> RerankResponse:
        answer = decode_answer(_responses, body)
        return RerankResponse(
            model=answer.model or request.model or "",
            results=tuple(Result(one.index, one.score) for one in answer.data),
            usage=counted(answer.usage),
        )

    def render_error(self, error: RerankError, request_id: str) -> tuple[int, bytes]:
        return vllm_shapes.render_error(error)

    def parse_error(self, status: int, headers: Mapping[str, str], body: bytes) -> RerankError:
        return openai_shapes.parse_error(status, headers, body)

    def schemas(self) -> tuple[Any, Any]:
        return VllmScoreRequest, VllmScoreResponse


def _sides(fields: VllmScoreRequest) -> tuple[str, tuple[Document, ...]]:
    first, queries = _given(fields, QUERIES)
    second, texts = _given(fields, DOCUMENTS)
    documents = documents_of(texts if texts is None or isinstance(texts, list) else [texts], second)
    if not isinstance(queries, list):
        return query_of(queries, first), documents
    if len(queries) > 1 and len(queries) != len(documents):
        message = (
            f"`{first}` has {len(queries)} elements and `{second}` {len(documents)}: send one query for all texts."
        )
        raise BadRequest(message, param=first)
    asked = {query_of(query, f"{first}[{place}]") for place, query in enumerate(queries)}
    if len(asked) > 1:
        message = (
            f"`{first}` holds {len(asked)} different queries; a request is ranked for one: send one for each query."
        )
        raise BadRequest(message, param=first)
    return query_of("".join(asked), first), documents


def _given(fields: VllmScoreRequest, names: tuple[str, ...]) -> tuple[str, Side | None]:
    """The first of these that the client sent, by its name; where there is none, the usual name."""
    for name in names:
        found: Side | None = getattr(fields, name)
        if found is not None:
            return name, found
    return names[0], None
