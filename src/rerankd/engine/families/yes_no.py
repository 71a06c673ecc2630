"""Causal models that are asked whether a document answers a query: the score is how much more they would say yes than no.

Qwen3-Reranker and its one-row conversions, mxbai-rerank v2, bge-reranker-v2-gemma. Of the output embedding only the rows of
the answers are kept. Nothing in the files says that such a model is a reranker; a model of these classes can be nothing else
here, as long as its tokenizer has the answers.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from transformers import (
    GemmaConfig,
    GemmaModel,
    PreTrainedConfig,
    PreTrainedModel,
    Qwen2Config,
    Qwen2Model,
    Qwen3Config,
    Qwen3Model,
)

from rerankd.engine.checkpoint import Checkpoint
from rerankd.engine.decoder import PackedDecoder
from rerankd.engine.decoder_weights import OUTPUTS, SCORE, load_decoder, output_rows, score_row
from rerankd.engine.families.cross_encoder import one_label, score_kind
from rerankd.engine.families.gemma_prompt import GemmaPrompt
from rerankd.engine.families.mxbai_prompt import MxbaiPrompt
from rerankd.engine.families.qwen3_prompt import Qwen3Prompt
from rerankd.engine.families.recipe import Loading
from rerankd.engine.pairwise import Pairwise
from rerankd.engine.prompt_encoding import Prompt, PromptEncoding
from rerankd.engine.prompt_tokens import PromptTokenizer

INT8 = True


@dataclass(frozen=True, slots=True)
class Recipe:
    """`prompt` takes the tokenizer, the most tokens that fit and those that the user wants.

    The logit of the first of `answers` counts, less that of the second where there are two; without any the checkpoint has
    a head of its own.
    """

    config: type[PreTrainedConfig]
    decoder: type[PreTrainedModel]
    prompt: Callable[[PromptTokenizer, int, int | None], Prompt]
    answers: tuple[str, ...] = ()


RECIPES = {
    "Qwen3ForCausalLM": Recipe(Qwen3Config, Qwen3Model, Qwen3Prompt, ("yes", "no")),
    "Qwen3ForSequenceClassification": Recipe(Qwen3Config, Qwen3Model, Qwen3Prompt),
    "Qwen2ForCausalLM": Recipe(Qwen2Config, Qwen2Model, MxbaiPrompt, ("1", "0")),
    "GemmaForCausalLM": Recipe(GemmaConfig, GemmaModel, GemmaPrompt, ("Yes",)),
}


def recognises(checkpoint: Checkpoint) -> bool:
    return checkpoint.architecture in RECIPES


def load(loading: Loading) -> Pairwise:
    """Raises `UnsupportedModel` where the tokenizer does not have what the prompt needs, `LoadError` for damaged files."""
    checkpoint = loading.checkpoint
    recipe = RECIPES[checkpoint.architecture]
    config: Any = recipe.config.from_dict(checkpoint.config)
    if not recipe.answers:
        one_label(config, loading.source)
    tokenizer = PromptTokenizer(checkpoint.tokenizer_json())
    answers = [tokenizer.token(answer) for answer in recipe.answers]
    most = checkpoint.max_length(config.max_position_embeddings, None)
    prompt = recipe.prompt(tokenizer, most, loading.max_length)
    encode = PromptEncoding(
        tokenizer,
        prompt,
        instruction=loading.instruction,
        query_limit=loading.max_query_length,
        reuse=loading.prefix_reuse,
    )
    device = loading.placement.device
    base, heads = load_decoder(
        recipe.decoder, config, checkpoint, loading.placement, loading.progress, heads=(OUTPUTS, SCORE)
    )
    direction = _direction(output_rows(base, heads, answers) if answers else score_row(heads)).to(device)
    runner = PackedDecoder(base, lambda rows: rows.double() @ direction, device, loading.int8)
    card = loading.card("yes-no", score_kind(checkpoint.config), prompt.max_length, instructions=prompt.instructions)
    return Pairwise(card, runner, encode)


def _direction(rows: torch.Tensor) -> torch.Tensor:
    """What hidden states are multiplied with for a logit, [hidden_size, 1] in float64: yes, less no where it is asked."""
    first, *others = rows.double().unbind()
    return (first - others[0] if others else first).unsqueeze(1)
