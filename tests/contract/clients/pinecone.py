"""Pinecone's own SDK; it makes objects of the documents and brings its key as `Api-Key`."""

from __future__ import annotations

from pinecone import Pinecone

from tests.contract.cases import Answer, Ask


def client(ask: Ask) -> Answer:
    return asked(ask, Pinecone(api_key=ask.key, host=f"{ask.url}/pinecone"))


def at_the_root(ask: Ask) -> Answer:
    return asked(ask, Pinecone(api_key=ask.key, host=ask.url))


def asked(ask: Ask, client: Pinecone) -> Answer:
    answer = client.inference.rerank(
        model=ask.model,
        query=ask.query,
        documents=list(ask.documents),
        return_documents=True,
        **ask.limit("top_n"),
    )
    return Answer(
        order=[result.index for result in answer.data],
        scores=[result.score for result in answer.data],
        documents=[result.document["text"] for result in answer.data],
        usage=answer.usage.rerank_units,
    )


CLIENTS = {"pinecone": client, "pinecone at the root": at_the_root}
