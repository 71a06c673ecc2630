"""LiteLLM's `rerank` with those of its providers whose formats we serve; it asks for documents unless it is told not to."""

from __future__ import annotations

import litellm

from tests.contract.cases import Answer, Ask


def cohere(ask: Ask) -> Answer:
    return asked(ask, model=f"cohere/{ask.model}", api_base=f"{ask.url}/cohere")


def jina_ai(ask: Ask) -> Answer:
    return asked(ask, model=f"jina_ai/{ask.model}", api_base=f"{ask.url}")


def hosted_vllm(ask: Ask) -> Answer:
    return asked(ask, model=f"hosted_vllm/{ask.model}", api_base=f"{ask.url}/vllm/v1")


def hosted_vllm_at_the_root(ask: Ask) -> Answer:
    return asked(ask, model=f"hosted_vllm/{ask.model}", api_base=f"{ask.url}/v1")


def litellm_proxy(ask: Ask) -> Answer:
    return asked(ask, model=f"litellm_proxy/{ask.model}", api_base=ask.url)


def infinity(ask: Ask) -> Answer:
    return asked(ask, model=f"infinity/{ask.model}", api_base=f"{ask.url}/infinity")


def voyage(ask: Ask) -> Answer:
    return asked(ask, model=f"voyage/{ask.model}", api_base=f"{ask.url}/voyage")


def together_ai(ask: Ask) -> Answer:
    return asked(ask, model=f"together_ai/{ask.model}", api_base=f"{ask.url}/together/v1")


def dashscope(ask: Ask) -> Answer:
    return asked(ask, model=f"dashscope/{ask.model}", api_base=f"{ask.url}/dashscope/compatible-api/v1")


def nvidia_nim(ask: Ask) -> Answer:
    return asked(ask, model=f"nvidia_nim/ranking/{ask.model}", api_base=f"{ask.url}/nvidia")


def asked(ask: Ask, *, model: str, api_base: str) -> Answer:
    answer = litellm.rerank(
        model=model,
        api_base=api_base,
        api_key=ask.key,
        query=ask.query,
        documents=list(ask.documents),
        top_n=ask.top_n,
        max_retries=0,
    )
    tokens, billed = answer.meta.get("tokens") or {}, answer.meta.get("billed_units") or {}
    documents = [result["document"]["text"] for result in answer.results if "document" in result]
    return Answer(
        order=[result["index"] for result in answer.results],
        scores=[result["relevance_score"] for result in answer.results],
        documents=documents or None,
        usage=tokens.get("input_tokens") or billed.get("total_tokens") or billed.get("search_units"),
    )


CLIENTS = {
    "litellm cohere/": cohere,
    "litellm jina_ai/": jina_ai,
    "litellm hosted_vllm/": hosted_vllm,
    "litellm hosted_vllm/ at the root": hosted_vllm_at_the_root,
    "litellm litellm_proxy/": litellm_proxy,
    "litellm infinity/": infinity,
    "litellm voyage/": voyage,
    "litellm together_ai/": together_ai,
    "litellm dashscope/": dashscope,
    "litellm nvidia_nim/ranking/": nvidia_nim,
}
