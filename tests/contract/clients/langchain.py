"""LangChain's document compressors, which carry the caller's own documents and put the score into their metadata."""

from __future__ import annotations

from langchain_cohere import CohereRerank
from langchain_community.document_compressors import JinaRerank, jina_rerank
from langchain_core.documents import Document
from langchain_core.documents.compressor import BaseDocumentCompressor
from langchain_nvidia_ai_endpoints import NVIDIARerank

from tests.contract.cases import Answer, Ask


def cohere(ask: Ask) -> Answer:
    reranker = CohereRerank(cohere_api_key=ask.key, base_url=f"{ask.url}/cohere", model=ask.model, top_n=ask.top_n)
    return compressed(ask, reranker)


def jina(ask: Ask) -> Answer:
    jina_rerank.JINA_API_URL = f"{ask.url}/jina/v1/rerank"
    return compressed(ask, JinaRerank(jina_api_key=ask.key, model=ask.model, top_n=ask.top_n))


def nvidia(ask: Ask) -> Answer:
    reranker = NVIDIARerank(base_url=f"{ask.url}/nvidia/v1", api_key=ask.key, model=ask.model, **ask.limit("top_n"))
    return compressed(ask, reranker)


def compressed(ask: Ask, reranker: BaseDocumentCompressor) -> Answer:
    documents = reranker.compress_documents([Document(text) for text in ask.documents], ask.query)
    return Answer(
        order=ask.places(document.page_content for document in documents),
        scores=[document.metadata["relevance_score"] for document in documents],
    )


CLIENTS = {
    "langchain-cohere CohereRerank": cohere,
    "langchain-community JinaRerank": jina,
    "langchain-nvidia-ai-endpoints NVIDIARerank": nvidia,
}
