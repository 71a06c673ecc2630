"""The fields that every rerank request has, checked once: what each must be, and what absent means."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from rerankd.errors import BadRequest
from rerankd.types import Document

MOST_TOKENS = 2**31 - 1
MOST_CHUNKS = 10_000
MOST_OVERLAP = 8192
"""The largest numbers that are taken: a cut may be as far out as a client likes, but windows are work."""

DOCUMENT = 'a string or an object {"text": string}'
EXPECTED = {
    "model": "a string",
    "query": "a non-empty string",
    "documents": f"a non-empty list, each element {DOCUMENT}",
    "documents[]": DOCUMENT,
    "documents[].text": "a string",
    "top_n": "a whole number",
    "return_documents": "true or false",
    "return_embeddings": "true or false",
    "instruction": "a string",
    "instruct": "a string",
    "max_tokens_per_doc": f"a whole number from 1 to {MOST_TOKENS}",
    "max_doc_length": f"a whole number from 1 to {MOST_TOKENS}",
    "max_chunks_per_doc": f"a whole number from 1 to {MOST_CHUNKS}",
    "max_chunk_per_doc": f"a whole number from 1 to {MOST_CHUNKS}",
    "overlap_tokens": f"a whole number from 0 to {MOST_OVERLAP}",
    "truncation": "true or false",
    "truncate": 'true, false, "END" or "NONE"',
    "priority": '"interactive", "batch" or a whole number',
}
"""What a client is told about a field that is something else."""


EXAMPLE = {
    "query": "What is the capital of France?",
    "documents": ["The sky is blue.", "Paris is the capital of France.", "I like to eat pizza."],
}
"""A request that every format can carry, to be shown and tried."""


class TextDocument(msgspec.Struct):
    """A document as an object; its other fields are passed over."""

    text: str


DocumentField = str | TextDocument


def query_of(query: object) -> str:
    if not isinstance(query, str) or not query:
        raise BadRequest(f"`query` {_state(query)}; it must be {EXPECTED['query']}.", param="query")
    return query


def documents_of(documents: Sequence[DocumentField] | None) -> tuple[Document, ...]:
    if not documents:
        raise BadRequest(f"`documents` {_state(documents)}; it must be {EXPECTED['documents']}.", param="documents")
    return tuple(Document(item if isinstance(item, str) else item.text) for item in documents)


def top_n_of(top_n: int | None) -> int | None:
    """None, and 0 with it, mean all documents."""
    if top_n is not None and top_n < 0:
        raise BadRequest("`top_n` must not be negative; 0, null and absent mean all documents.", param="top_n")
    return top_n or None


def _state(value: object) -> str:
    return "is missing" if value is None else "is of another type" if value else "is empty"
