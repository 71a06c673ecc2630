"""Xinference's own client; it asks whether there is a login and what the model is before it ranks."""

from __future__ import annotations

from xinference_client import RESTfulClient

from tests.contract.cases import Answer, Ask


def client(ask: Ask) -> Answer:
    return asked(ask, RESTfulClient(f"{ask.url}/xinference", api_key=ask.key))


def at_the_root(ask: Ask) -> Answer:
    return asked(ask, RESTfulClient(ask.url, api_key=ask.key))


def asked(ask: Ask, client: RESTfulClient) -> Answer:
    answer = client.get_model(ask.model).rerank(
        list(ask.documents), ask.query, return_documents=True, return_len=True, **ask.limit("top_n")
    )
    return Answer(
        order=[result["index"] for result in answer["results"]],
        scores=[result["relevance_score"] for result in answer["results"]],
        documents=[result["document"]["text"] for result in answer["results"]],
        usage=answer["meta"]["tokens"]["input_tokens"],
    )


CLIENTS = {"xinference-client": client, "xinference-client at the root": at_the_root}
