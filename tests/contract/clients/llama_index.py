"""LlamaIndex's postprocessors, which carry the caller's own nodes; each has a `top_n` of its own where none is given."""

from __future__ import annotations

from llama_index.core.postprocessor.types import BaseNodePostprocessor
from llama_index.core.schema import NodeWithScore, TextNode
from llama_index.postprocessor.cohere_rerank import CohereRerank
from llama_index.postprocessor.jinaai_rerank import JinaRerank
from llama_index.postprocessor.siliconflow_rerank import SiliconFlowRerank
from llama_index.postprocessor.tei_rerank import TextEmbeddingInference

from tests.contract.cases import Answer, Ask


def cohere(ask: Ask) -> Answer:
    return processed(
        ask, CohereRerank(api_key=ask.key, base_url=f"{ask.url}/cohere", model=ask.model, **ask.limit("top_n"))
    )


def jina(ask: Ask) -> Answer:
    return processed(
        ask, JinaRerank(api_key=ask.key, base_url=f"{ask.url}/jina/v1", model=ask.model, **ask.limit("top_n"))
    )


def siliconflow(ask: Ask) -> Answer:
    reranker = SiliconFlowRerank(
        api_key=ask.key, base_url=f"{ask.url}/siliconflow/v1/rerank", model=ask.model, **ask.limit("top_n")
    )
    return processed(ask, reranker)


def tei(ask: Ask) -> Answer:
    return processed(ask, TextEmbeddingInference(auth_token=ask.key, base_url=f"{ask.url}/tei", **ask.limit("top_n")))


def tei_at_the_root(ask: Ask) -> Answer:
    return processed(ask, TextEmbeddingInference(auth_token=ask.key, base_url=ask.url, **ask.limit("top_n")))


def processed(ask: Ask, reranker: BaseNodePostprocessor) -> Answer:
    nodes = [NodeWithScore(node=TextNode(text=text)) for text in ask.documents]
    ranked = reranker.postprocess_nodes(nodes, query_str=ask.query)
    return Answer(order=ask.places(node.text for node in ranked), scores=[node.score for node in ranked])


CLIENTS = {
    "llama-index CohereRerank": cohere,
    "llama-index JinaRerank": jina,
    "llama-index SiliconFlowRerank": siliconflow,
    "llama-index TextEmbeddingInference": tei,
    "llama-index TextEmbeddingInference at the root": tei_at_the_root,
}
