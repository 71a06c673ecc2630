"""Together's own SDK."""

from __future__ import annotations

from together import Together

from tests.contract.cases import Answer, Ask


def client(ask: Ask) -> Answer:
    client = Together(api_key=ask.key, base_url=f"{ask.url}/together")
    answer = client.with_options(max_retries=0).rerank.create(
        model=ask.model,
        query=ask.query,
        documents=list(ask.documents),
        return_documents=True,
        **ask.limit("top_n"),
    )
    return Answer(
        order=[result.index for result in answer.results],
        scores=[result.relevance_score for result in answer.results],
        documents=[result.document.text for result in answer.results],
        usage=answer.usage.total_tokens,
    )


CLIENTS = {"together": client}
