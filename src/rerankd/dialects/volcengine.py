"""Volcengine's rerank of VikingDB, called only: pairs go out, and scores come back in the order of the request.

An answer says in `code` whether it is one: 0 is, and everything else is an error, whatever the HTTP status. BytePlus speaks
the same format. Requests are signed, which is up to whoever sends them.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from rerankd.dialects.base import Codec
from rerankd.dialects.decoding import decode_answer
from rerankd.dialects.error_bodies import message_in
from rerankd.dialects.results import Count, usage_of
from rerankd.dialects.statuses import error_of, read
from rerankd.errors import RerankError, UpstreamMalformed
from rerankd.types import RerankRequest, RerankResponse, Result

STATUSES: Mapping[int, int] = {
    1000001: 401,
    1000002: 400,
    1000003: 400,
    1000028: 503,
    1000030: 502,
    300004: 429,
}
"""What a code means: a signature that is not valid (its own status is 403), a bad request, a model that has too much to do,
one that failed, and an account's limit.
"""


class Pair(msgspec.Struct):
    query: str
    content: str


class VolcengineRequest(msgspec.Struct, omit_defaults=True):
    datas: list[Pair]
    rerank_model: str | None = None
    rerank_instruction: str | None = None


class Scores(msgspec.Struct):
    scores: list[float]
    token_usage: Count | None = None


class VolcengineAnswer(msgspec.Struct):
    code: int = 0
    data: Scores | None = None


class Code(msgspec.Struct):
    code: int


_answers = msgspec.json.Decoder(VolcengineAnswer)
_codes = msgspec.json.Decoder(Code)


class Volcengine(Codec):
    name = "volcengine"
    title = "Volcengine VikingDB"
    paths = ("/api/knowledge/service/rerank",)
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
        return msgspec.json.encode(
            VolcengineRequest(
                datas=[Pair(request.query, document.text) for document in request.documents],
                rerank_model=request.model,
                rerank_instruction=request.instruction,
            )
        )

    def parse_response(self, body: bytes, headers: Mapping[str, str], request: RerankRequest) -> RerankResponse:
        """Raises the error that the answer is, where its `code` says so."""
        answer = decode_answer(_answers, body)
        if answer.code:
            raise self.parse_error(502, headers, body)
        if answer.data is None:
            raise UpstreamMalformed("The answer has no `data`.")
        return RerankResponse(
            model=request.model or "",
            results=tuple(Result(index, score) for index, score in enumerate(answer.data.scores)),
            usage=usage_of(answer.data.token_usage),
        )

    def parse_error(self, status: int, headers: Mapping[str, str], body: bytes) -> RerankError:
        found = read(_codes, body)
        told = STATUSES.get(found.code, status) if found else status
        return error_of(told, headers, message_in(body))
