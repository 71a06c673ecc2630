"""Decoder rerankers of full size with random weights: one long prompt, and prefix reuse."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Any

import torch
from transformers import Qwen3Config, Qwen3Model

from rerankd.engine.attention import IMPLEMENTATION
from rerankd.engine.decoder import PackedDecoder
from rerankd.engine.scorer import Watch, run_all
from rerankd.engine.sequences import SharedPrefix, TokenSequence
from turns import take_turns

SIZE: dict[str, Any] = {
    "vocab_size": 151_936,
    "hidden_size": 1024,
    "intermediate_size": 3072,
    "num_hidden_layers": 28,
    "num_attention_heads": 16,
    "num_key_value_heads": 8,
    "head_dim": 128,
    "max_position_embeddings": 40_960,
    "rms_norm_eps": 1e-6,
}
"""Qwen3-0.6B, which jina-reranker-v3 is built on and Qwen3-Reranker-0.6B is."""
PROMPT_TOKENS = 200
"""What jina-v3's prompt adds to its documents, about."""
PREFIX_TOKENS = 90
"""What a Qwen3-Reranker prompt begins with for all documents: the system's words, the instruction, a query of 12 words."""


@dataclass(frozen=True)
class Pair:
    """Seconds."""

    ours: float
    peer: float


def listwise(rounds: int, documents: int = 50, tokens: int = 200) -> Pair:
    ids = _ids(PROMPT_TOKENS + documents * tokens)
    taps = tuple(range(PROMPT_TOKENS + tokens - 1, len(ids), tokens))
    ours, theirs = _decoder(), _model("sdpa")

    def reference() -> None:
        with torch.inference_mode():
            theirs(input_ids=torch.tensor([ids]), use_cache=False)

    ways = {
        "transformers": reference,
        "rerankd": lambda: run_all(ours, [TokenSequence(ids, taps=taps)], Watch()),
    }
    taken = take_turns(ways, rounds)
    return Pair(taken["rerankd"], taken["transformers"])


def prefix_reuse(rounds: int, documents: int = 50, tokens: int = 60) -> Pair:
    prefix = _ids(PREFIX_TOKENS)
    each = [_ids(tokens, seed) for seed in range(1, documents + 1)]
    decoder = _decoder()

    def shared() -> None:
        once = SharedPrefix(prefix)
        run_all(decoder, [TokenSequence(ids, taps=(-1,), prefix=once) for ids in each], Watch())

    ways = {
        "off": lambda: run_all(decoder, [TokenSequence([*prefix, *ids], taps=(-1,)) for ids in each], Watch()),
        "on": shared,
    }
    taken = take_turns(ways, rounds)
    return Pair(taken["on"], taken["off"])


def _decoder() -> PackedDecoder:
    return PackedDecoder(_model(IMPLEMENTATION), lambda rows: rows.float(), torch.device("cpu"))


def _model(attention: str) -> Any:
    torch.manual_seed(0)
    config = Qwen3Config(**SIZE)
    config._attn_implementation = attention
    model: Any = Qwen3Model(config)
    return model.to(torch.bfloat16).eval().requires_grad_(False)


def _ids(count: int, seed: int = 0) -> list[int]:
    chance = random.Random(seed)  # noqa: S311
    return [chance.randrange(150_000) for _ in range(count)]
