"""Requests and answers to put through a wire format."""

from __future__ import annotations

from hypothesis import strategies as st

from rerankd.dialects.fields import MOST_CHUNKS, MOST_OVERLAP, MOST_TOKENS
from rerankd.types import Document, RerankRequest, RerankResponse, Result, Usage

TEXTS = st.text(max_size=20)
SCORES = st.floats(allow_nan=False, allow_infinity=False)
COUNTS = st.integers(0, 2**40)
JSON = st.none() | st.booleans() | st.integers(-(2**40), 2**40) | TEXTS


def _with_fields(text: str, more: dict[str, object]) -> Document:
    return Document(text, {**more, "text": text} if more else None)


DOCUMENTS = st.builds(_with_fields, TEXTS, st.dictionaries(TEXTS.filter(lambda name: name != "text"), JSON, max_size=2))

REQUESTS = st.builds(
    RerankRequest,
    query=st.text(min_size=1, max_size=20),
    documents=st.lists(DOCUMENTS, min_size=1, max_size=6).map(tuple),
    model=st.none() | TEXTS,
    top_n=st.none() | st.integers(1, 2**62),
    return_documents=st.booleans(),
    return_embeddings=st.booleans(),
    instruction=st.none() | st.text(min_size=1, max_size=20),
    max_tokens_per_doc=st.none() | st.integers(1, MOST_TOKENS),
    max_chunks_per_doc=st.none() | st.integers(1, MOST_CHUNKS),
    overlap_tokens=st.none() | st.integers(0, MOST_OVERLAP),
    truncation=st.booleans(),
    raw_scores=st.none() | st.booleans(),
    priority=st.sampled_from(["interactive", "batch"]),
    unread=st.lists(TEXTS, max_size=2).map(tuple),
)


@st.composite
def responses(draw: st.DrawFn) -> RerankResponse:
    """Answers to a request of six documents: each at most once, in an order of their own."""
    indexes = draw(st.permutations(range(6)))[: draw(st.integers(0, 6))]
    return RerankResponse(
        model=draw(st.text(min_size=1, max_size=20)),
        results=tuple(
            Result(
                index,
                draw(SCORES),
                draw(st.none() | DOCUMENTS),
                draw(st.none() | st.lists(SCORES, max_size=4).map(tuple)),
            )
            for index in indexes
        ),
        usage=draw(
            st.builds(
                Usage,
                prompt_tokens=COUNTS,
                cached_tokens=COUNTS,
                estimated=st.booleans(),
                search_units=st.integers(1, 10**6),
            )
        ),
        warnings=draw(st.lists(TEXTS, max_size=3).map(tuple)),
    )


RESPONSES = responses()
