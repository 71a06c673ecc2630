"""A transformers encoder run over packed batches, within a budget of tokens at a time.

Linear layers, norms and activations see rows and nothing else, so a packed batch costs what its tokens cost, and in
float32 each row equals that of the padded model to 1e-6.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from time import perf_counter

import torch
from transformers import PreTrainedModel

from rerankd.engine.packing import PackedBatch, TokenSequence, pack
from rerankd.engine.scorer import Watch

CPU_TOKEN_BUDGET = 2048
CUDA_TOKEN_BUDGET = 16384


class PackedEncoder:
    """`first_position` is the position id of a sequence's first token: 0 for BERT, pad id + 1 for RoBERTa's kind."""

    def __init__(self, base: PreTrainedModel, first_position: int, device: torch.device) -> None:
        self._base = base
        self._first_position = first_position
        self._device = device
        self._token_budget = CPU_TOKEN_BUDGET if device.type == "cpu" else CUDA_TOKEN_BUDGET

    def rows(
        self,
        sequences: Sequence[TokenSequence],
        pool: Callable[[torch.Tensor, PackedBatch], torch.Tensor],
        watch: Watch,
    ) -> torch.Tensor:
        """What `pool` makes of each sequence's hidden states, [sequences, width] on the CPU, in the caller's order.

        Equal sequences are computed once, and so get equal rows to the last bit.
        """
        started = perf_counter()
        distinct: dict[tuple[int, ...], TokenSequence] = {}
        for sequence in sequences:
            distinct.setdefault(tuple(sequence.ids), sequence)
        rows = self._distinct_rows(list(distinct.values()), pool, watch)
        row_of = {ids: row for row, ids in enumerate(distinct)}
        watch.took("infer", started)
        return rows[torch.tensor([row_of[tuple(sequence.ids)] for sequence in sequences])]

    def _distinct_rows(
        self,
        sequences: Sequence[TokenSequence],
        pool: Callable[[torch.Tensor, PackedBatch], torch.Tensor],
        watch: Watch,
    ) -> torch.Tensor:
        pooled: list[torch.Tensor] = []
        order: list[int] = []
        with torch.inference_mode():
            for batch in pack(sequences, self._token_budget):
                watch.check()
                pooled.append(pool(self._hidden(batch), batch))
                order.extend(batch.members)
            placed = torch.cat(pooled).cpu()
        rows = torch.empty_like(placed)
        rows[torch.tensor(order)] = placed
        return rows

    def _hidden(self, batch: PackedBatch) -> torch.Tensor:
        """The last hidden states, [rows, hidden_size]."""
        output = self._base(
            input_ids=batch.input_ids.to(self._device),
            token_type_ids=batch.token_type_ids.to(self._device),
            position_ids=(batch.position_ids + self._first_position).to(self._device),
            spans=batch.spans,
        )
        hidden: torch.Tensor = output.last_hidden_state[0]
        return hidden


def first_rows(hidden: torch.Tensor, batch: PackedBatch) -> torch.Tensor:
    """The hidden state of each sequence's first token, [sequences, hidden_size]."""
    return hidden[torch.tensor(batch.starts, device=hidden.device)]


def mean_rows(hidden: torch.Tensor, batch: PackedBatch) -> torch.Tensor:
    """The mean of each sequence's hidden states in float32, special tokens included, [sequences, hidden_size]."""
    return torch.cat(
        [
            hidden[start : start + count * length].unflatten(0, (count, length)).float().mean(1)
            for start, count, length in batch.spans
        ]
    )
