"""A decoder's weights without its vocabulary of outputs, of which only the rows that somebody asks for are kept."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from transformers import PreTrainedConfig, PreTrainedModel

from rerankd.engine.checkpoint import Checkpoint, Progress
from rerankd.engine.devices import Placement
from rerankd.engine.weights import Tensors, load_model
from rerankd.errors import LoadError

OUTPUTS, SCORE = "lm_head.weight", "score.weight"
"""The output embedding, and the one row that a classification head has instead."""


def load_decoder(
    cls: type[PreTrainedModel],
    config: PreTrainedConfig,
    checkpoint: Checkpoint,
    placement: Placement,
    progress: Progress,
    *,
    heads: Sequence[str],
) -> tuple[PreTrainedModel, Tensors]:
    """A decoder of class `cls` on its device, and on the CPU the tensors named in `heads`, as far as there are such.

    Raises `LoadError` where a tensor of the decoder is missing or of another shape.
    """
    kept: Tensors = {}

    def body(tensors: Tensors) -> Tensors:
        kept.update((name, tensors.pop(name)) for name in heads if name in tensors)
        return {name.removeprefix("model."): tensor for name, tensor in tensors.items()}

    return load_model(cls, config, checkpoint, placement, progress, rename=body), kept


def output_rows(base: PreTrainedModel, kept: Tensors, ids: Sequence[int]) -> torch.Tensor:
    """The rows of the output embedding for these tokens, [ids, hidden_size].

    Raises `LoadError` where it is neither in the checkpoint nor that of the input.
    """
    embedding: Any = base.get_input_embeddings()
    matrix = embedding.weight if base.config.tie_word_embeddings else kept.get(OUTPUTS)
    if matrix is None:
        raise LoadError(f"The checkpoint lacks {OUTPUTS}, and its config does not tie it to the input's embedding.")
    rows: torch.Tensor = matrix[torch.tensor(ids, device=matrix.device)]
    return rows


def score_row(kept: Tensors) -> torch.Tensor:
    """The classification head's row, [1, hidden_size]. Raises `LoadError` where the checkpoint lacks it."""
    if SCORE not in kept:
        raise LoadError(f"The checkpoint lacks {SCORE}.")
    return kept[SCORE]
