"""Mixedbread's own SDK."""

from __future__ import annotations

from mixedbread import Mixedbread

from tests.contract.cases import Answer, Ask


def client(ask: Ask) -> Answer:
    client = Mixedbread(api_key=ask.key, base_url=f"{ask.url}/mixedbread")
    answer = client.with_options(max_retries=0).rerank(
        model=ask.model, query=ask.query, input=list(ask.documents), return_input=True, **ask.limit("top_k")
    )
    return Answer(
        order=[result.index for result in answer.data],
        scores=[result.score for result in answer.data],
        documents=[result.input for result in answer.data],
        usage=answer.usage.total_tokens,
    )


CLIENTS = {"mixedbread": client}
