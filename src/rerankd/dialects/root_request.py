"""The request body of the root paths: every field, its bounds, and the other names that clients have for it.

The formats of these paths differ only in what an absent `return_documents` means. Where a field comes under two names, the
first of them counts: `instruction` before `instruct`, `max_tokens_per_doc` before Jina's `max_doc_length`,
`max_chunks_per_doc` before New API's `max_chunk_per_doc`, `truncation` before TEI's `truncate`.
"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from rerankd.dialects.fields import (
    MOST_CHUNKS,
    MOST_OVERLAP,
    MOST_TOKENS,
    DocumentField,
    documents_of,
    query_of,
    top_n_of,
)
from rerankd.types import Priority, RerankRequest

Tokens = Annotated[int, Meta(ge=1, le=MOST_TOKENS)]
Chunks = Annotated[int, Meta(ge=1, le=MOST_CHUNKS)]
Overlap = Annotated[int, Meta(ge=0, le=MOST_OVERLAP)]


class RootRequest(msgspec.Struct, omit_defaults=True):
    model: str | None = None
    query: str | None = None
    documents: list[DocumentField] | None = None
    top_n: int | None = None
    return_documents: bool | None = None
    return_embeddings: bool | None = None
    instruction: Annotated[str | None, Meta(description="What the ranking follows, where the model can.")] = None
    max_tokens_per_doc: Annotated[Tokens | None, Meta(description="Read so many tokens of each document.")] = None
    max_chunks_per_doc: Annotated[
        Chunks | None, Meta(description="Score a long document in at most so many windows; the best counts.")
    ] = None
    overlap_tokens: Annotated[Overlap | None, Meta(description="Tokens that neighbouring windows share.")] = None
    truncation: Annotated[
        bool | None, Meta(description="False: what is too long for the model is an error instead of a cut.")
    ] = None
    priority: Annotated[
        Literal["interactive", "batch"] | int | None,
        Meta(description="Batch lets interactive go first; of Cohere's numbers, those above 0 are batch."),
    ] = None
    instruct: Annotated[str | None, Meta(description="As `instruction`.")] = None
    max_doc_length: Annotated[Tokens | None, Meta(description="As `max_tokens_per_doc`.")] = None
    max_chunk_per_doc: Annotated[Chunks | None, Meta(description="As `max_chunks_per_doc`.")] = None
    truncate: Annotated[
        bool | Literal["NONE", "END"] | None, Meta(description="As `truncation`; NONE is false, END true.")
    ] = None


def parse(fields: RootRequest, *, return_documents: bool) -> RerankRequest:
    """The request; `return_documents` is what absent means. Raises `BadRequest`, naming the field."""
    return RerankRequest(
        query=query_of(fields.query),
        documents=documents_of(fields.documents),
        model=fields.model,
        top_n=top_n_of(fields.top_n),
        return_documents=return_documents if fields.return_documents is None else fields.return_documents,
        return_embeddings=bool(fields.return_embeddings),
        instruction=fields.instruction or fields.instruct or None,
        max_tokens_per_doc=fields.max_tokens_per_doc or fields.max_doc_length,
        max_chunks_per_doc=fields.max_chunks_per_doc or fields.max_chunk_per_doc,
        overlap_tokens=fields.overlap_tokens,
        truncation=_truncation(fields),
        priority=_priority(fields.priority),
    )


def render(kind: type[RootRequest], request: RerankRequest, *, return_documents: bool | None) -> bytes:
    """The body, without what is as it would be unsaid; `return_documents` None leaves that one out."""
    return msgspec.json.encode(
        kind(
            model=request.model,
            query=request.query,
            documents=[document.text for document in request.documents],
            top_n=request.top_n,
            return_documents=return_documents,
            return_embeddings=request.return_embeddings or None,
            instruction=request.instruction,
            max_tokens_per_doc=request.max_tokens_per_doc,
            max_chunks_per_doc=request.max_chunks_per_doc,
            overlap_tokens=request.overlap_tokens,
            truncation=None if request.truncation else False,
            priority=None if request.priority == "interactive" else request.priority,
        )
    )


def _truncation(fields: RootRequest) -> bool:
    said = fields.truncate if fields.truncation is None else fields.truncation
    return said not in (False, "NONE")


def _priority(said: Priority | int | None) -> Priority:
    if isinstance(said, int):
        return "batch" if said > 0 else "interactive"
    return said or "interactive"
