"""DashScope's own SDK; it raises nothing when it is refused, but answers with the status, a code and a message."""

from __future__ import annotations

import dashscope

from tests.contract.cases import Answer, Ask


class Refused(Exception):
    """What a user's code has to make of an answer that is none."""


def text_rerank(ask: Ask) -> Answer:
    dashscope.base_http_api_url = f"{ask.url}/dashscope/api/v1"
    answer = dashscope.TextReRank.call(
        model=ask.model,
        query=ask.query,
        documents=list(ask.documents),
        return_documents=True,
        api_key=ask.key,
        **ask.limit("top_n"),
    )
    if answer.status_code != 200:
        raise Refused(f"{answer.status_code} {answer.code}: {answer.message}")
    return Answer(
        order=[result.index for result in answer.output.results],
        scores=[result.relevance_score for result in answer.output.results],
        documents=[result["document"]["text"] for result in answer.output.results],  # .document is always None in 2.0.2
        usage=answer.usage.total_tokens,
    )


CLIENTS = {"dashscope": text_rerank}
