"""A transformers encoder run over packed batches: the general way, for every architecture whose attention can be packed.

Linear layers, norms and activations see rows and nothing else, so a packed batch costs what its tokens cost, and in
float32 each row equals that of the padded model to 1e-6.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import replace
from typing import Any

import torch
from transformers import PreTrainedModel

from rerankd.engine.attention import Span
from rerankd.engine.linear import HEIGHTS
from rerankd.engine.packing import PackedBatch, pack
from rerankd.engine.scorer import Steps
from rerankd.engine.sequences import TokenSequence

BATCH_TOKENS = 2048
"""Until a device has been measured."""
HEAD_ROWS = 16
"""A head sees so many rows at a time, always: its element-wise functions round alike then, wherever a row stands."""

Pool = Callable[[torch.Tensor, Sequence[Span]], torch.Tensor]
"""Hidden states [rows, hidden_size] to one row per sequence, [sequences, hidden_size]."""
Head = Callable[[torch.Tensor], torch.Tensor]
"""Pooled rows [HEAD_ROWS, hidden_size] to what the model says of each, [HEAD_ROWS, width]."""
Layers = Callable[[PackedBatch], Iterator[torch.Tensor | None]]
"""The model's layers as steps; the last thing that it gives are the hidden states [rows, hidden_size]."""


class PackedEncoder:
    """`layers` does the model's work, `pool` and `head` make a result of it."""

    def __init__(
        self, layers: Layers, pool: Pool, head: Head, heights: Sequence[int] = HEIGHTS, padding_id: int | None = None
    ) -> None:
        self.batch_tokens = BATCH_TOKENS
        self._layers = layers
        self._heights = heights
        self._pool = pool
        self._head = head
        self._padding_id = padding_id

    def run(self, sequences: Sequence[TokenSequence]) -> Steps:
        batch = pack(sequences, self._heights, self._padding_id)
        if self._pool is first_rows:
            batch = replace(batch, wanted=torch.tensor([span.start for span in batch.spans]))
        hidden = yield from hidden_states(self._layers(batch))
        with torch.inference_mode():
            pooled = self._pool(hidden, batch.spans)
            return list(by_head_rows(self._head, pooled).cpu().unbind())


def hidden_states(layers: Iterator[torch.Tensor | None]) -> Generator[None, None, torch.Tensor]:
    """The last thing that `layers` give, a step of theirs at a time."""
    hidden = torch.empty(0)
    while True:
        with torch.inference_mode():  # entered anew in each step: other work may run on this thread between two
            try:
                made = next(layers)
            except StopIteration:
                return hidden
        hidden = hidden if made is None else made
        yield


def whole_model(base: PreTrainedModel, first_position: int, device: torch.device, **arguments: Any) -> Layers:
    """All layers in one step, by the model's own forward; `first_position` is the position id of a first token."""

    def layers(batch: PackedBatch) -> Iterator[torch.Tensor | None]:
        output = base(
            input_ids=batch.input_ids.unsqueeze(0).to(device),
            position_ids=(batch.position_ids + first_position).unsqueeze(0).to(device),
            spans=batch.spans,
            **({"token_type_ids": batch.token_type_ids.unsqueeze(0).to(device)} if typed else {}),
            **arguments,
        )
        yield output.last_hidden_state[0]

    typed = (getattr(base.config, "type_vocab_size", 0) or 0) > 0
    return layers


def by_head_rows(head: Head, pooled: torch.Tensor) -> torch.Tensor:
    """What `head` makes of each row, [rows, width]."""
    count = len(pooled)
    filled = torch.cat([pooled, pooled.new_zeros(-count % HEAD_ROWS, pooled.shape[1])])
    return torch.cat([head(part) for part in filled.split(HEAD_ROWS)])[:count]


def first_rows(hidden: torch.Tensor, spans: Sequence[Span]) -> torch.Tensor:
    """The hidden state of each sequence's first token, [sequences, hidden_size]."""
    return hidden[torch.tensor([span.start for span in spans], device=hidden.device)]


def mean_rows(hidden: torch.Tensor, spans: Sequence[Span]) -> torch.Tensor:
    """The mean of each sequence's hidden states in float32, special tokens included, [sequences, hidden_size]."""
    return torch.stack([hidden[span.start : span.stop].float().mean(0) for span in spans])
