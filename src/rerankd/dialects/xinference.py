"""Xinference: POST /v1/rerank, Cohere's answer with a null for everything that there is not.

The nulls are the real server's and its clients know them: `document` where documents were not asked for, and all of `meta`.
`meta.tokens` alone we fill always, though the server does only for `return_len`: FastGPT and whoever counts tokens reads
it without asking, and nobody needs it to be null. RAGFlow sends its booleans as strings, and the SDK sends what it has
no field for in `kwargs`, which is JSON in a string.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from rerankd.dialects import cohere_shapes
from rerankd.dialects.base import Codec
from rerankd.dialects.cohere_shapes import Tokens
from rerankd.dialects.decoding import decode, reader
from rerankd.dialects.error_bodies import message_in, render_detail
from rerankd.dialects.fields import EXPECTED, Chunks, TextField, documents_of, query_of, top_n_of
from rerankd.dialects.results import object_of
from rerankd.dialects.root_request import Extras, instruction_in
from rerankd.dialects.statuses import error_of
from rerankd.errors import RerankError
from rerankd.types import Call, RerankRequest, RerankResponse


class XinferenceRequest(msgspec.Struct, omit_defaults=True):
    """`max_chunks_per_doc` is an error of the real server, and is done here; `return_len` is done unasked."""

    model: str | None = None
    query: TextField | None = None
    documents: list[TextField] | None = None
    top_n: int | None = None
    return_documents: bool | None = None
    return_len: bool | None = None
    max_chunks_per_doc: Chunks | None = None
    instruction: str | None = None
    kwargs: str | None = None


class XinferenceResult(msgspec.Struct):
    index: int
    relevance_score: float
    document: dict[str, Any] | None = None


class XinferenceMeta(msgspec.Struct):
    tokens: Tokens
    api_version: None = None
    billed_units: None = None
    warnings: list[str] | None = None


class XinferenceResponse(msgspec.Struct):
    """Documents in order of relevance, best first."""

    id: str
    results: list[XinferenceResult]
    meta: XinferenceMeta


_requests = reader(XinferenceRequest)


class Xinference(Codec):
    name = "xinference"
    title = "Xinference"
    paths = ("/v1/rerank",)
    request_losses: Mapping[str, object] = {
        "documents.fields": None,
        "return_embeddings": False,
        "max_tokens_per_doc": None,
        "overlap_tokens": None,
        "truncation": True,
        "raw_scores": None,
        "priority": "interactive",
        "unread": (),
    }
    response_losses = cohere_shapes.RESPONSE_LOSSES | {"usage.search_units"}

    def parse_request(self, body: bytes) -> RerankRequest:
        fields = decode(_requests, body, EXPECTED)
        return RerankRequest(
            query=query_of(fields.query),
            documents=documents_of(fields.documents),
            model=fields.model,
            top_n=top_n_of(fields.top_n),
            return_documents=bool(fields.return_documents),
            instruction=fields.instruction or instruction_in(fields.kwargs),
            max_chunks_per_doc=fields.max_chunks_per_doc or None,
        )

    def render_request(self, request: RerankRequest) -> bytes:
        """Tokens are always asked for; the instruction goes where every version of the server looks for it."""
        extras = Extras(request.instruction)
        return msgspec.json.encode(
            XinferenceRequest(
                model=request.model,
                query=request.query,
                documents=[document.text for document in request.documents],
                top_n=request.top_n,
                return_documents=request.return_documents or None,
                return_len=True,
                max_chunks_per_doc=request.max_chunks_per_doc,
                kwargs=msgspec.json.encode(extras).decode() if extras.instruction else None,
            )
        )

    def render_response(self, response: RerankResponse, request: RerankRequest, call: Call) -> bytes:
        results = [
            XinferenceResult(one.index, one.relevance_score, None if one.document is None else object_of(one.document))
            for one in response.results
        ]
        meta = XinferenceMeta(Tokens(response.usage.total_tokens), warnings=list(response.warnings) or None)
        return msgspec.json.encode(XinferenceResponse(call.request_id, results, meta))

    def parse_response(self, body: bytes, headers: Mapping[str, str], request: RerankRequest) -> RerankResponse:
        return cohere_shapes.parse_response(body, request)

    def render_error(self, error: RerankError, request_id: str) -> tuple[int, bytes]:
        return render_detail(error)

    def parse_error(self, status: int, headers: Mapping[str, str], body: bytes) -> RerankError:
        return error_of(status, headers, message_in(body))

    def schemas(self) -> tuple[Any, Any]:
        return XinferenceRequest, XinferenceResponse
