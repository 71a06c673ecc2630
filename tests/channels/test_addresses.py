from __future__ import annotations

import pytest

from rerankd.channels.addresses import url_of
from rerankd.dialects.directory import CALLED
from rerankd.errors import BadSettings


@pytest.mark.parametrize(
    ("base", "dialect", "url"),
    [
        ("https://api.jina.ai", "jina", "https://api.jina.ai/v1/rerank"),
        ("https://api.jina.ai/", "jina", "https://api.jina.ai/v1/rerank"),
        ("https://api.jina.ai/v1", "jina", "https://api.jina.ai/v1/rerank"),
        ("https://api.jina.ai/v1/", "jina", "https://api.jina.ai/v1/rerank"),
        ("https://api.jina.ai/v1/rerank", "jina", "https://api.jina.ai/v1/rerank"),
        ("https://api.jina.ai/v1/rerank/", "jina", "https://api.jina.ai/v1/rerank"),
        ("http://gateway:8080/team/v1", "jina", "http://gateway:8080/team/v1/rerank"),
        ("http://gateway/team", "jina", "http://gateway/team/v1/rerank"),
        ("http://gateway/dev1", "jina", "http://gateway/dev1/v1/rerank"),
        ("https://openrouter.ai/api/v1", "openrouter", "https://openrouter.ai/api/v1/rerank"),
        ("https://api.cohere.com/v2", "cohere_v2", "https://api.cohere.com/v2/rerank"),
        ("http://tei", "tei", "http://tei/rerank"),
        ("http://tei/rerank", "tei", "http://tei/rerank"),
        ("http://tei/invocations", "tei", "http://tei/invocations"),
        ("http://vllm", "vllm", "http://vllm/v1/rerank"),
        ("http://vllm/v2", "vllm", "http://vllm/v2/rerank"),
        ("http://vllm/rerank", "vllm", "http://vllm/rerank"),
        (
            "https://dashscope.aliyuncs.com/compatible-mode/v1",
            "dashscope_compatible",
            "https://dashscope.aliyuncs.com/compatible-mode/v1/reranks",
        ),
        ("https://api.deepinfra.com", "deepinfra", "https://api.deepinfra.com/v1/inference/Qwen/Qwen3%20R%3F%23"),
        ("https://api.deepinfra.com/v1", "deepinfra", "https://api.deepinfra.com/v1/inference/Qwen/Qwen3%20R%3F%23"),
        ("http://nim:8000/v1", "nvidia", "http://nim:8000/v1/ranking"),
        (
            "https://ai.api.nvidia.com/v1/retrieval",
            "nvidia",
            "https://ai.api.nvidia.com/v1/retrieval/Qwen/Qwen3%20R%3F%23/reranking",
        ),
        ("http://[::1]:80/v1", "jina", "http://[::1]/v1/rerank"),
    ],
)
def test_a_base_url_and_a_path_are_joined_where_they_overlap(base: str, dialect: str, url: str) -> None:
    assert url_of(base, CALLED[dialect].paths, "Qwen/Qwen3 R?#") == url


@pytest.mark.parametrize("model", ["", ".", "..", "a/../b", "../../admin", "/a", "a/", "a//b"])
def test_a_model_that_would_lead_to_another_path_is_refused(model: str) -> None:
    with pytest.raises(BadSettings):
        url_of("https://api.deepinfra.com", CALLED["deepinfra"].paths, model)


def test_where_the_model_is_not_in_the_path_it_may_be_a_path_itself() -> None:
    assert url_of("http://vllm", CALLED["vllm"].paths, "/models/bge") == "http://vllm/v1/rerank"
