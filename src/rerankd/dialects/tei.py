"""Hugging Face's Text Embeddings Inference: POST /rerank with `texts`, answered by a bare list.

There is no model in it, no `top_n` and no usage in the body: what a request cost stands in headers.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import msgspec
from msgspec import UNSET, UnsetType

from rerankd.dialects import tei_error
from rerankd.dialects.base import Codec
from rerankd.dialects.decoding import decode, decode_answer, reader
from rerankd.dialects.fields import EXPECTED, TextField, documents_of, query_of, used
from rerankd.dialects.results import document_of, usage_of
from rerankd.errors import RerankError
from rerankd.types import Call, RerankRequest, RerankResponse, Result

SENTENCES = {**EXPECTED, "truncate": EXPECTED["truncation"]}


class TeiRequest(msgspec.Struct, omit_defaults=True):
    """`raw_scores` true are logits, false probabilities; absent leaves the model its own scale."""

    query: TextField | None = None
    texts: list[TextField] | None = None
    raw_scores: bool | None = None
    return_text: bool | None = None
    truncate: bool | None = None
    truncation_direction: str | None = None


class TeiResult(msgspec.Struct):
    index: int
    score: float
    text: str | UnsetType = UNSET


class TeiAnswer(msgspec.Struct):
    index: int
    score: float
    text: str | None = None


_requests = reader(TeiRequest)
_responses = msgspec.json.Decoder(list[TeiAnswer])


class Tei(Codec):
    name = "tei"
    title = "Text Embeddings Inference"
    paths = ("/rerank", "/invocations")
    request_losses: Mapping[str, object] = {
        "documents.fields": None,
        "model": None,
        "top_n": None,
        "return_embeddings": False,
        "instruction": None,
        "max_tokens_per_doc": None,
        "max_chunks_per_doc": None,
        "overlap_tokens": None,
        "priority": "interactive",
        "unread": (),
    }
    response_losses = frozenset(
        {
            "model",
            "warnings",
            "documents.fields",
            "results.embedding",
            "usage.cached_tokens",
            "usage.estimated",
            "usage.search_units",
        }
    )

    def parse_request(self, body: bytes) -> RerankRequest:
        fields = decode(_requests, body, SENTENCES)
        side = fields.truncation_direction
        return RerankRequest(
            query=query_of(fields.query),
            documents=documents_of(fields.texts, "texts"),
            return_documents=bool(fields.return_text),
            truncation=fields.truncate is not False,
            raw_scores=fields.raw_scores,
            unread=used(truncation_direction=side if side and side.lower() == "left" else None),
        )

    def render_request(self, request: RerankRequest) -> bytes:
        """`truncate` is always said: what its absence means is a flag of the server that is asked."""
        return msgspec.json.encode(
            TeiRequest(
                query=request.query,
                texts=[document.text for document in request.documents],
                raw_scores=request.raw_scores,
                return_text=request.return_documents or None,
                truncate=request.truncation,
            )
        )

    def render_response(self, response: RerankResponse, request: RerankRequest, call: Call) -> bytes:
        return msgspec.json.encode(
            [
                TeiResult(one.index, one.relevance_score, UNSET if one.document is None else one.document.text)
                for one in response.results
            ]
        )

    def response_headers(self, response: RerankResponse, request: RerankRequest, call: Call) -> Mapping[str, str]:
        """Times in whole milliseconds; the type of compute is the constant that TEI says on every machine."""
        took = call.notes.timings
        total = str(int(sum(took.values())))
        characters = sum(len(request.query) + len(document.text) for document in request.documents)
        return {
            "x-compute-type": "gpu+optimized",
            "x-compute-time": total,
            "x-compute-characters": str(characters),
            "x-compute-tokens": str(response.usage.prompt_tokens),
            "x-total-time": total,
            "x-tokenization-time": str(int(took.get("tokenize", 0))),
            "x-queue-time": str(int(took.get("queue", 0))),
            "x-inference-time": str(int(took.get("infer", 0))),
        }

    def parse_response(self, body: bytes, headers: Mapping[str, str], request: RerankRequest) -> RerankResponse:
        tokens = headers.get("x-compute-tokens", "")
        return RerankResponse(
            model=request.model or "",
            results=tuple(
                Result(one.index, one.score, document_of(one.text)) for one in decode_answer(_responses, body)
            ),
            usage=usage_of(int(tokens) if re.fullmatch("[0-9]{1,15}", tokens) else None),
        )

    def render_error(self, error: RerankError, request_id: str) -> tuple[int, bytes]:
        return tei_error.render(error)

    def parse_error(self, status: int, headers: Mapping[str, str], body: bytes) -> RerankError:
        return tei_error.parse(status, headers, body)

    def schemas(self) -> tuple[Any, Any]:
        return TeiRequest, list[TeiResult]
