"""Infinity's generated client, strict about the answer's fields; it gives None for an error unless it is told to raise."""

from __future__ import annotations

from infinity_client import AuthenticatedClient
from infinity_client.api.default import rerank
from infinity_client.models import RerankInput

from tests.contract.cases import Answer, Ask


def client(ask: Ask) -> Answer:
    client = AuthenticatedClient(base_url=f"{ask.url}/infinity", token=ask.key, raise_on_unexpected_status=True)
    body = RerankInput(
        model=ask.model,
        query=ask.query,
        documents=list(ask.documents),
        return_documents=True,
        **ask.limit("top_n"),
    )
    answer = rerank.sync(client=client, body=body)
    return Answer(
        order=[result.index for result in answer.results],
        scores=[result.relevance_score for result in answer.results],
        documents=[result.document for result in answer.results],
        usage=answer.usage.prompt_tokens,
    )


CLIENTS = {"infinity-client": client}
