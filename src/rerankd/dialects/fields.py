"""The fields that every rerank request has, checked once: what each must be, and what absent means."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from rerankd.dialects.decoding import kind_of
from rerankd.errors import BadRequest
from rerankd.types import Document, RerankRequest

MOST_TOKENS = 2**31 - 1
MOST_CHUNKS = 10_000
MOST_OVERLAP = 8192
"""The largest numbers that are taken: a cut may be as far out as a client likes, but windows are work."""

Tokens = Annotated[int, Meta(ge=0, le=MOST_TOKENS)]
Chunks = Annotated[int, Meta(ge=0, le=MOST_CHUNKS)]
Overlap = Annotated[int, Meta(ge=0, le=MOST_OVERLAP)]

TextField = str | dict[str, Any]
"""A text as clients send it: a string, or an object that holds one."""

DOCUMENT = 'a string or an object {"text": string}'
EXPECTED = {
    "model": "a string",
    "query": "a non-empty string",
    "queries": "a list of strings",
    "queries[]": "a string",
    "documents": f"a non-empty list, each element {DOCUMENT}",
    "documents[]": DOCUMENT,
    "rank_fields": "a list of strings",
    "rank_fields[]": "a string",
    "top_n": "a whole number",
    "top_k": "a whole number",
    "return_documents": "true or false",
    "return_text": "true or false",
    "return_input": "true or false",
    "return_len": "true or false",
    "return_embeddings": "true or false",
    "raw_scores": "true or false",
    "use_activation": "true or false",
    "activation": "true or false",
    "instruction": "a string",
    "instruct": "a string",
    "kwargs": "a string that holds a JSON object",
    "max_tokens_per_doc": f"a whole number from 0 (no limit) to {MOST_TOKENS}",
    "max_doc_length": f"a whole number from 0 (no limit) to {MOST_TOKENS}",
    "max_chunks_per_doc": f"a whole number from 0 (no limit) to {MOST_CHUNKS}",
    "max_chunk_per_doc": f"a whole number from 0 (no limit) to {MOST_CHUNKS}",
    "overlap_tokens": f"a whole number from 0 to {MOST_OVERLAP}",
    "truncation": "true or false",
    "truncate": 'true, false, "END" or "NONE"',
    "truncation_direction": '"left" or "right"',
    "truncation_side": '"left" or "right"',
    "truncate_prompt_tokens": f"a whole number from -1 (as many as the model can) to {MOST_TOKENS}",
    "max_tokens_per_query": f"a whole number from 0 (no limit) to {MOST_TOKENS}",
    "chat_template_kwargs": "an object",
    "request_id": "a string",
    "cache_salt": "a string",
    "user": "a string",
    "priority": '"interactive", "batch" or a whole number',
    "parameters": "an object",
    "rewrite_query": "true or false",
}
"""What a client is told about a field that is something else."""

for _name in ("texts", "input", "passages", "text_1", "text_2", "items", "data_1", "data_2"):
    EXPECTED[_name] = EXPECTED["documents"]
    EXPECTED[f"{_name}[]"] = DOCUMENT


EXAMPLE: dict[str, Any] = {
    "query": "What is the capital of France?",
    "documents": ["The sky is blue.", "Paris is the capital of France.", "I like to eat pizza."],
}
"""A request that every format can carry, to be shown and tried."""

EXAMPLE_REQUEST = RerankRequest(query=EXAMPLE["query"], documents=tuple(map(Document, EXAMPLE["documents"])))


def query_of(query: TextField | None, param: str = "query") -> str:
    """The query's text. Raises `BadRequest` where it is missing, empty, or an object without a text."""
    text = query if query is None or isinstance(query, str) else _text(query, param)
    if not text:
        raise BadRequest(f"`{param}` {_state(query)}; it must be {EXPECTED['query']}.", param=param)
    return text


def documents_of(
    documents: Sequence[TextField] | None, param: str = "documents", rank_fields: Sequence[str] | None = None
) -> tuple[Document, ...]:
    """The documents, in the field `param`. Of objects, `rank_fields` are what is ranked where they are given, else the text.

    Raises `BadRequest`, naming the document, where there is none or one has no text.
    """
    if not documents:
        raise BadRequest(f"`{param}` {_state(documents)}; it must be {EXPECTED['documents']}.", param=param)
    return tuple(
        [
            Document(item) if isinstance(item, str) else _document(item, f"{param}[{place}]", rank_fields)
            for place, item in enumerate(documents)
        ]
    )


def top_n_of(top_n: int | None, param: str = "top_n") -> int | None:
    """None, and 0 with it, mean all documents."""
    if top_n is not None and top_n < 0:
        raise BadRequest(f"`{param}` must not be negative; 0, null and absent mean all documents.", param=param)
    return top_n or None


def used(**fields: object) -> tuple[str, ...]:
    """The names of those that are there, for `RerankRequest.unread`."""
    return tuple(name for name, value in fields.items() if value is not None)


def _document(item: Mapping[str, Any], param: str, rank_fields: Sequence[str] | None) -> Document:
    fields = None if set(item) <= {"text"} else dict(item)
    if not rank_fields or list(rank_fields) == ["text"]:
        return Document(_text(item, param), fields)
    chosen = [name for name in rank_fields if item.get(name) is not None]
    if not chosen:
        raise BadRequest(f"`{param}` has none of the `rank_fields`: {', '.join(rank_fields)}.", param=param)
    if len(chosen) == 1 and isinstance(item[chosen[0]], str):
        return Document(item[chosen[0]], fields)
    return Document("\n".join(f"{name}: {_line(item[name])}" for name in chosen), fields)


def _text(item: Mapping[str, Any], param: str) -> str:
    """The text of an object: its `text`, or the text parts of its `content`, as multimodal formats have it."""
    if isinstance(item.get("text"), str):
        text: str = item["text"]
        return text
    content = item.get("content")
    if isinstance(content, str):
        return content
    if isinstance(content, list) and content and all(isinstance(part, dict) for part in content):
        return "\n".join(_text(part, f"{param}.content[{place}]") for place, part in enumerate(content))
    if any(name in item for name in ("image", "image_url", "video", "video_url")):
        raise BadRequest(f"`{param}` is no text; only texts are ranked here.", param=param)
    if "text" in item:
        found = kind_of(item["text"])
        raise BadRequest(f"`{param}.text` must be a string, not {found}.", param=f"{param}.text")
    raise BadRequest(f"`{param}` lacks `text`; it must be {DOCUMENT}.", param=param)


def _line(value: object) -> str:
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()


def _state(value: object) -> str:
    return "is missing" if value is None else "is empty"
