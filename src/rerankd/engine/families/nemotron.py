"""nvidia's llama-nemotron-rerank: Llama without its causal mask, the mean of all hidden states, one logit.

Its class comes with the checkpoint as code, which is never run: it is transformers' Llama but for the mask.
"""

from __future__ import annotations

from typing import Any

import torch
from transformers import LlamaConfig, LlamaModel

from rerankd.engine.checkpoint import Checkpoint
from rerankd.engine.decoder_weights import SCORE, load_decoder, score_row
from rerankd.engine.encoder import PackedEncoder, mean_rows, whole_model
from rerankd.engine.families.cross_encoder import one_label
from rerankd.engine.families.recipe import Loading
from rerankd.engine.linear import tile_linears
from rerankd.engine.pairwise import Pairwise
from rerankd.engine.prompt_encoding import Frame, PromptEncoding
from rerankd.engine.prompt_tokens import PromptTokenizer
from rerankd.errors import UnsupportedModel

MAX_LENGTH = 8192


class NemotronPrompt:
    lead = "question: \n \n"
    opening = " passage:"
    instructions = False

    def __init__(self, tokenizer: PromptTokenizer, most: int, wanted: int | None) -> None:
        self.max_length = min(most, MAX_LENGTH if wanted is None else wanted)
        self._tokenizer = tokenizer
        self._before, self._after = tokenizer.around()
        self._room = self.max_length - len(self._before) - len(self._after)

    def around(self, query: str, instruction: str | None) -> Frame:
        """One text, of which what is too long goes from the end."""
        asked = self._tokenizer.text(f"question:{query} \n \n")
        return Frame(
            before=[*self._before, *asked[: self._room]],
            after=self._after,
            room=max(0, self._room - len(asked)),
            asked=len(asked),
            asked_room=self._room,
        )


def recognises(checkpoint: Checkpoint) -> bool:
    return checkpoint.architecture == "LlamaBidirectionalForSequenceClassification"


def load(loading: Loading) -> Pairwise:
    """Raises `UnsupportedModel` where it pools otherwise, `LoadError` where a tensor is missing or damaged."""
    checkpoint = loading.checkpoint
    config = LlamaConfig.from_dict({**checkpoint.config, "model_type": "llama"})
    one_label(config, loading.source)
    if checkpoint.config.get("pooling", "avg") != "avg":
        raise UnsupportedModel(f"{loading.source} pools by {checkpoint.config['pooling']}; known is avg.")
    tokenizer = PromptTokenizer(checkpoint.tokenizer_json())
    most = checkpoint.max_length(config.max_position_embeddings, None)
    prompt = NemotronPrompt(tokenizer, most, loading.max_length)
    encode = PromptEncoding(tokenizer, prompt, query_limit=loading.max_query_length, reuse=False)
    runner = _runner(loading, config)
    return Pairwise(loading.card("cross-encoder", "probability", prompt.max_length), runner, encode)


def _runner(loading: Loading, config: LlamaConfig) -> PackedEncoder:
    checkpoint, placement = loading.checkpoint, loading.placement
    base, heads = load_decoder(LlamaModel, config, checkpoint, placement, loading.progress, heads=(SCORE,))
    layers: Any = base.layers
    for layer in layers:
        layer.self_attn.is_causal = False
    tile_linears(base)
    temperature = float(checkpoint.config.get("temperature", 1.0))
    weight = score_row(heads).double().t().to(placement.device) / temperature

    def head(rows: torch.Tensor) -> torch.Tensor:
        return rows.double() @ weight

    return PackedEncoder(whole_model(base, 0, placement.device, use_cache=False), mean_rows, head)
