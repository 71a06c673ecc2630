"""Voyage's own SDK; it takes the documents' texts from its own list, not from the answer."""

from __future__ import annotations

import voyageai

from tests.contract.cases import Answer, Ask


def client(ask: Ask) -> Answer:
    client = voyageai.Client(api_key=ask.key, base_url=f"{ask.url}/voyage/v1")
    answer = client.rerank(model=ask.model, query=ask.query, documents=list(ask.documents), **ask.limit("top_k"))
    return Answer(
        order=[result.index for result in answer.results],
        scores=[result.relevance_score for result in answer.results],
        usage=answer.total_tokens,
    )


CLIENTS = {"voyageai": client}
