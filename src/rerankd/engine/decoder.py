"""A causal decoder over packed batches: the last hidden states at each sequence's taps, and never a vocabulary of logits.

What all sequences of a request begin with is computed once: its keys and values are kept with its SharedPrefix, and every
sequence attends to them as if they stood before it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import accumulate, pairwise
from typing import Any

import torch
from transformers import PreTrainedModel

from rerankd.engine import pre_norm
from rerankd.engine.attention import KeysAndValues, Span
from rerankd.engine.encoder import BATCH_TOKENS, Head, by_head_rows, hidden_states
from rerankd.engine.int8 import linear_class, no_int8
from rerankd.engine.linear import HEIGHTS, tile_linears
from rerankd.engine.packing import PackedBatch, pack
from rerankd.engine.pre_norm import PreNormLayers
from rerankd.engine.scorer import Steps
from rerankd.engine.sequences import SharedPrefix, TokenSequence


class PackedDecoder:
    """`base` is transformers' decoder without its output embedding; `head` sees rows [rows, hidden_size] one by one.

    A sequence's result is what `head` makes of its taps, [taps, width].
    """

    def __init__(self, base: PreTrainedModel, head: Head, device: torch.device, int8: bool = False) -> None:
        """Raises `LoadError` where it is to be run in int8 and cannot be."""
        self.batch_tokens = BATCH_TOKENS
        self._head = head
        self._device = device
        self._norm: Any = None
        self._heights: Sequence[int] = HEIGHTS
        if pre_norm.supports(base):
            self._layers: Any = PreNormLayers(base, linear_class(int8))
            self._norm, self._heights = self._layers.norm, self._layers.heights
        elif int8:
            raise no_int8()
        else:
            tile_linears(base)
            self._layers = _whole_model(base, device)

    def run(self, sequences: Sequence[TokenSequence]) -> Steps:
        prefixes = dict.fromkeys(one.prefix for one in sequences if one.prefix is not None and not one.prefix.state)
        batch, kept = self._batch(list(prefixes), sequences)
        hidden = yield from hidden_states(self._layers(batch))
        for prefix, state in kept.items():
            prefix.state.update(state)
        with torch.inference_mode():
            return self._results(hidden, sequences, batch)

    def _batch(
        self, prefixes: Sequence[SharedPrefix], sequences: Sequence[TokenSequence]
    ) -> tuple[PackedBatch, dict[SharedPrefix, KeysAndValues]]:
        """Prefixes that are not known yet, then the sequences; and where the prefixes' keys and values will be."""
        kept: dict[SharedPrefix, KeysAndValues] = {prefix: {} for prefix in prefixes}
        packed = pack([*(TokenSequence(prefix.ids) for prefix in prefixes), *sequences], self._heights)
        spans = [
            Span(span.start, span.stop, keep=state) for span, state in zip(packed.spans, kept.values(), strict=False)
        ]
        for span, sequence in zip(packed.spans[len(prefixes) :], sequences, strict=True):
            before: Any = None if sequence.prefix is None else kept.get(sequence.prefix, sequence.prefix.state)
            spans.append(Span(span.start, span.stop, before=before))
        wanted = _taps(sequences, spans[len(prefixes) :])
        return replace(packed, spans=spans, wanted=torch.tensor(wanted, device=self._device)), kept

    def _results(
        self, hidden: torch.Tensor, sequences: Sequence[TokenSequence], batch: PackedBatch
    ) -> list[torch.Tensor]:
        rows = by_head_rows(self._heads_of, hidden[batch.wanted]).cpu()
        ends = accumulate((len(sequence.taps) for sequence in sequences), initial=0)
        return [rows[start:stop] for start, stop in pairwise(ends)]

    def _heads_of(self, rows: torch.Tensor) -> torch.Tensor:
        return self._head(rows if self._norm is None else self._norm(rows))


def _taps(sequences: Sequence[TokenSequence], spans: Sequence[Span]) -> list[int]:
    """The rows of the sequences' taps, sequence by sequence."""
    paired = zip(sequences, spans, strict=True)
    return [span.start + tap % len(span) for sequence, span in paired for tap in sequence.taps]


def _whole_model(base: Any, device: torch.device) -> Any:
    def layers(batch: PackedBatch) -> Iterator[torch.Tensor | None]:
        output = base(
            input_ids=batch.input_ids.unsqueeze(0).to(device),
            position_ids=batch.position_ids.unsqueeze(0).to(device),
            spans=batch.spans,
            use_cache=False,
        )
        yield output.last_hidden_state[0]

    return layers
