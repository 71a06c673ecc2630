"""Every wire format there is, by name: those that we serve, and those that we only call."""

from __future__ import annotations

from collections.abc import Mapping

from rerankd.dialects.base import Called, Dialect
from rerankd.dialects.cohere_v1 import CohereV1
from rerankd.dialects.cohere_v2 import CohereV2
from rerankd.dialects.dashscope import DashScope
from rerankd.dialects.dashscope_compatible import DashScopeCompatible
from rerankd.dialects.deepinfra import DeepInfra
from rerankd.dialects.infinity import Infinity
from rerankd.dialects.jina import Jina
from rerankd.dialects.llamacpp import Llamacpp
from rerankd.dialects.local import Local
from rerankd.dialects.mixedbread import Mixedbread
from rerankd.dialects.nvidia import Nvidia
from rerankd.dialects.openrouter import OpenRouter
from rerankd.dialects.pinecone import Pinecone
from rerankd.dialects.siliconflow import SiliconFlow
from rerankd.dialects.superset import Superset
from rerankd.dialects.tei import Tei
from rerankd.dialects.together import Together
from rerankd.dialects.vllm import Vllm
from rerankd.dialects.vllm_score import VllmScore
from rerankd.dialects.volcengine import Volcengine
from rerankd.dialects.voyage import Voyage
from rerankd.dialects.xinference import Xinference

DIALECTS: Mapping[str, Dialect] = {
    dialect.name: dialect
    for dialect in (
        Local(),
        Superset(),
        CohereV2(),
        CohereV1(),
        Jina(),
        SiliconFlow(),
        Voyage(),
        Together(),
        DashScope(),
        DashScopeCompatible(),
        Nvidia(),
        Mixedbread(),
        Pinecone(),
        Tei(),
        Infinity(),
        Xinference(),
        Vllm(),
        VllmScore(),
        Llamacpp(),
    )
}
"""Served and called."""

CALLED: Mapping[str, Called] = {
    **DIALECTS,
    **{
        dialect.name: dialect
        for dialect in (
            OpenRouter(),
            DeepInfra(),
            Volcengine(),
        )
    },
}
"""Those that a channel can speak."""
