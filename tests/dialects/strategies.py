"""Requests and answers to put through a wire format."""

from __future__ import annotations

from hypothesis import strategies as st

from rerankd.dialects.fields import MOST_CHUNKS, MOST_OVERLAP, MOST_TOKENS
from rerankd.types import Document, RerankRequest, RerankResponse, Result, Usage

TEXTS = st.text(max_size=20)
SCORES = st.floats(allow_nan=False, allow_infinity=False)
COUNTS = st.integers(0, 2**40)

REQUESTS = st.builds(
    RerankRequest,
    query=st.text(min_size=1, max_size=20),
    documents=st.lists(st.builds(Document, TEXTS), min_size=1, max_size=6).map(tuple),
    model=st.none() | TEXTS,
    top_n=st.none() | st.integers(1, 2**62),
    return_documents=st.booleans(),
    return_embeddings=st.booleans(),
    instruction=st.none() | st.text(min_size=1, max_size=20),
    max_tokens_per_doc=st.none() | st.integers(1, MOST_TOKENS),
    max_chunks_per_doc=st.none() | st.integers(1, MOST_CHUNKS),
    overlap_tokens=st.none() | st.integers(0, MOST_OVERLAP),
    truncation=st.booleans(),
    priority=st.sampled_from(["interactive", "batch"]),
)

RESULTS = st.builds(
    Result,
    index=st.integers(0, 10**6),
    relevance_score=SCORES,
    document=st.none() | st.builds(Document, TEXTS),
    embedding=st.none() | st.lists(SCORES, max_size=4).map(tuple),
)

RESPONSES = st.builds(
    RerankResponse,
    model=st.text(min_size=1, max_size=20),
    results=st.lists(RESULTS, max_size=6).map(tuple),
    usage=st.builds(Usage, prompt_tokens=COUNTS, cached_tokens=COUNTS, estimated=st.booleans()),
    warnings=st.lists(TEXTS, max_size=3).map(tuple),
)
