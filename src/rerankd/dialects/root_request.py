"""The request body of the root paths: every field, its bounds, and the other names that clients have for it.

The formats of these paths differ only in what an absent `return_documents` means. Where a field comes under two names, the
first of them counts: `documents` before `texts`, `input` and `passages`, `top_n` before `top_k`, `instruction` before
`instruct` and what is in `kwargs`, `max_tokens_per_doc` before Jina's `max_doc_length`, `max_chunks_per_doc` before New
API's `max_chunk_per_doc`, `truncation` before TEI's `truncate`, `return_documents` before `return_text`.
"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from rerankd.dialects.decoding import decode, reader
from rerankd.dialects.fields import (
    EXPECTED,
    Chunks,
    Overlap,
    TextField,
    Tokens,
    documents_of,
    query_of,
    top_n_of,
)
from rerankd.types import Document, Priority, RerankRequest

LOSSES: dict[str, object] = {"documents.fields": None, "unread": ()}
"""A document that was an object goes out as the text of it that is ranked."""


class RootRequest(msgspec.Struct, omit_defaults=True):
    model: str | None = None
    query: TextField | None = None
    documents: list[TextField] | None = None
    top_n: int | None = None
    return_documents: bool | None = None
    return_embeddings: bool | None = None
    rank_fields: Annotated[
        list[str] | None, Meta(description="Of documents that are objects: the fields that are ranked.")
    ] = None
    instruction: Annotated[str | None, Meta(description="What the ranking follows, where the model can.")] = None
    max_tokens_per_doc: Annotated[
        Tokens | None, Meta(description="Read so many tokens of each document; 0 means no limit.")
    ] = None
    max_chunks_per_doc: Annotated[
        Chunks | None, Meta(description="Score a long document in at most so many windows; the best counts.")
    ] = None
    overlap_tokens: Annotated[Overlap | None, Meta(description="Tokens that neighbouring windows share.")] = None
    truncation: Annotated[
        bool | None, Meta(description="False: what is too long for the model is an error instead of a cut.")
    ] = None
    raw_scores: Annotated[
        bool | None,
        Meta(description="True: logits; false: probabilities; absent: the scale that the model is served with."),
    ] = None
    priority: Annotated[
        Literal["interactive", "batch"] | int | None,
        Meta(description="Batch lets interactive go first; of Cohere's numbers, those above 0 are batch."),
    ] = None
    texts: Annotated[list[TextField] | None, Meta(description="As `documents`.")] = None
    input: Annotated[list[TextField] | None, Meta(description="As `documents`.")] = None
    passages: Annotated[list[TextField] | None, Meta(description="As `documents`.")] = None
    top_k: Annotated[int | None, Meta(description="As `top_n`.")] = None
    return_text: Annotated[bool | None, Meta(description="As `return_documents`.")] = None
    instruct: Annotated[str | None, Meta(description="As `instruction`.")] = None
    kwargs: Annotated[str | None, Meta(description="Xinference's: a JSON object in a string.")] = None
    max_doc_length: Annotated[Tokens | None, Meta(description="As `max_tokens_per_doc`.")] = None
    max_chunk_per_doc: Annotated[Chunks | None, Meta(description="As `max_chunks_per_doc`.")] = None
    truncate: Annotated[
        bool | Literal["NONE", "END"] | None, Meta(description="As `truncation`; NONE is false, END true.")
    ] = None


class Extras(msgspec.Struct):
    """What is read of `kwargs`."""

    instruction: str | None = None


_extras = reader(Extras)


def parse(fields: RootRequest, *, return_documents: bool) -> RerankRequest:
    """The request; `return_documents` is what absent means. Raises `BadRequest`, naming the field."""
    wanted = fields.return_text if fields.return_documents is None else fields.return_documents
    top_n, param = (fields.top_k, "top_k") if fields.top_n is None else (fields.top_n, "top_n")
    return RerankRequest(
        query=query_of(fields.query),
        documents=_documents(fields),
        model=fields.model,
        top_n=top_n_of(top_n, param),
        return_documents=return_documents if wanted is None else wanted,
        return_embeddings=bool(fields.return_embeddings),
        instruction=fields.instruction or fields.instruct or instruction_in(fields.kwargs),
        max_tokens_per_doc=fields.max_tokens_per_doc or fields.max_doc_length or None,
        max_chunks_per_doc=fields.max_chunks_per_doc or fields.max_chunk_per_doc or None,
        overlap_tokens=fields.overlap_tokens,
        truncation=_truncation(fields),
        raw_scores=fields.raw_scores,
        priority=priority_of(fields.priority),
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
            raw_scores=request.raw_scores,
            priority=None if request.priority == "interactive" else request.priority,
        )
    )


def instruction_in(kwargs: str | None) -> str | None:
    """The instruction in Xinference's JSON in a string. Raises `BadRequest` where that is no JSON object."""
    return None if not kwargs else decode(_extras, kwargs.encode(), EXPECTED).instruction or None


def priority_of(said: Priority | int | None) -> Priority:
    """Of Cohere's numbers 0 is the highest, and the default."""
    if isinstance(said, int):
        return "batch" if said > 0 else "interactive"
    return said or "interactive"


def _documents(fields: RootRequest) -> tuple[Document, ...]:
    for name in ("documents", "texts", "input", "passages"):
        found = getattr(fields, name)
        if found is not None:
            return documents_of(found, name, fields.rank_fields)
    return documents_of(None)


def _truncation(fields: RootRequest) -> bool:
    said = fields.truncate if fields.truncation is None else fields.truncation
    return said not in (False, "NONE")
