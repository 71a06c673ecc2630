"""Cohere's own SDK, its client of the first API and that of the second."""

from __future__ import annotations

import cohere

from tests.contract.cases import Answer, Ask

ONCE = {"max_retries": 0}


def v1(ask: Ask) -> Answer:
    return asked_v1(ask, cohere.Client(api_key=ask.key, base_url=f"{ask.url}/cohere"))


def v2(ask: Ask) -> Answer:
    return asked_v2(ask, cohere.ClientV2(api_key=ask.key, base_url=f"{ask.url}/cohere"))


def asked_v1(ask: Ask, client: cohere.Client) -> Answer:
    answer = client.rerank(
        model=ask.model,
        query=ask.query,
        documents=ask.documents,
        return_documents=True,
        request_options=ONCE,
        **ask.limit("top_n"),
    )
    return Answer(
        order=[result.index for result in answer.results],
        scores=[result.relevance_score for result in answer.results],
        documents=[result.document.text for result in answer.results],
        usage=answer.meta.billed_units.search_units,
    )


def asked_v2(ask: Ask, client: cohere.ClientV2) -> Answer:
    answer = client.rerank(
        model=ask.model, query=ask.query, documents=ask.documents, request_options=ONCE, **ask.limit("top_n")
    )
    return Answer(
        order=[result.index for result in answer.results],
        scores=[result.relevance_score for result in answer.results],
        usage=answer.meta.billed_units.search_units,
    )


CLIENTS = {"cohere.Client": v1, "cohere.ClientV2": v2}
