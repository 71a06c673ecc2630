"""A transformers model over padded batches, for every architecture whose attention cannot be packed.

A sequence is padded to the next of a few lengths, which its own length decides, and every batch of that length has the same
shape: what it lacks is filled up with copies. The shape's number of rows is one at which a sequence was seen to get the same
bits wherever it stands; a sequence too long for a batch of several runs alone, and so does every sequence of a model that
does not mask its padding well.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from transformers import PreTrainedModel

from rerankd.engine.checkpoint import UNLIMITED
from rerankd.engine.encoder import BATCH_TOKENS
from rerankd.engine.scorer import Steps
from rerankd.engine.sequences import TokenSequence

AT_ONCE = {"cpu": 512, "cuda": 8192}
"""Tokens of a batch with its padding. Many small ones waste little where there is not much to do, and let others in."""
SHORTEST = 16

Inputs = dict[str, torch.Tensor]
"""`input_ids` and, where the model wants them, `attention_mask` and `token_type_ids`, each [sequences, length]."""
Ask = Callable[[Inputs], torch.Tensor]
"""What the model says of each sequence, [sequences, width]."""


class PaddedEncoder:
    """`ask` runs `model`, which takes sequences of up to `longest` tokens; unless it `masks` padding, there is none."""

    def __init__(self, model: PreTrainedModel, ask: Ask, longest: int, *, masks: bool) -> None:
        self.batch_tokens = BATCH_TOKENS
        self._model: Any = model
        self._ask = ask
        self._longest = longest
        self._masks = masks
        self._padding_id = getattr(model.config, "pad_token_id", None) or 0
        self._typed = token_types(model) > 0
        self._rows: dict[int, int] = {}

    def run(self, sequences: Sequence[TokenSequence]) -> Steps:
        results: list[torch.Tensor] = [torch.empty(0)] * len(sequences)
        for length, places in self._by_length(sequences):
            with torch.inference_mode():
                rows = self._rows_at(length)
            for start in range(0, len(places), rows):
                part = places[start : start + rows]
                filled = [sequences[place] for place in part] + [sequences[part[0]]] * (rows - len(part))
                with torch.inference_mode():
                    made = self._ask(self._padded(filled, length)).cpu()
                for place, result in zip(part, made, strict=False):
                    results[place] = result
                yield
        return results

    def _by_length(self, sequences: Sequence[TokenSequence]) -> Iterator[tuple[int, list[int]]]:
        """Padded lengths, shortest first, each with the places of its sequences."""
        groups: dict[int, list[int]] = {}
        for place in sorted(range(len(sequences)), key=lambda place: len(sequences[place])):
            length = len(sequences[place])
            groups.setdefault(min(padded_length(length), self._longest) if self._masks else length, []).append(place)
        yield from groups.items()

    def _rows_at(self, length: int) -> int:
        """How many sequences a batch of this length has; it is found out when the first one is wanted."""
        if not self._masks:
            return 1
        if length not in self._rows:
            most = max(1, AT_ONCE.get(self._model.device.type, AT_ONCE["cpu"]) // length)
            self._rows[length] = most if most > 1 and self._seen_equal(length, most) else 1
        return self._rows[length]

    def _seen_equal(self, length: int, rows: int) -> bool:
        """Whether random sequences get the same hidden states and results in other places and beside others."""
        generator = torch.Generator().manual_seed(length)
        pieces = self._model.get_input_embeddings().num_embeddings
        ids = torch.randint(pieces, (rows, length), generator=generator)
        ids[ids == self._padding_id] = (self._padding_id + 1) % pieces
        sequences = [TokenSequence(row[: length - place % 3].tolist()) for place, row in enumerate(ids)]
        there = self._observed(sequences, length)
        back = self._observed(sequences[::-1], length)
        return all(
            torch.equal(one[place], other[rows - 1 - place])
            for one, other in zip(there, back, strict=True)
            for place in range(rows)
        )

    def _observed(self, sequences: Sequence[TokenSequence], length: int) -> list[torch.Tensor]:
        """The last hidden states, [sequences, length, hidden_size], and the results."""
        seen: list[torch.Tensor] = []
        hook = self._model.base_model.register_forward_hook(lambda _model, _inputs, output: seen.append(output[0]))
        try:
            inputs = self._padded(sequences, length)
            results = self._ask(inputs)
        finally:
            hook.remove()
        return [*(hidden * inputs["attention_mask"].unsqueeze(-1) for hidden in seen), results]

    def _padded(self, sequences: Sequence[TokenSequence], length: int) -> Inputs:
        device = self._model.device
        rows = [[*one.ids, *[self._padding_id] * (length - len(one))] for one in sequences]
        inputs = {"input_ids": torch.tensor(rows, device=device)}
        if self._masks:
            mask = [[1] * len(one) + [0] * (length - len(one)) for one in sequences]
            inputs["attention_mask"] = torch.tensor(mask, device=device)
        if self._typed:
            types = [[*(one.types or [0] * len(one)), *[0] * (length - len(one))] for one in sequences]
            inputs["token_type_ids"] = torch.tensor(types, device=device)
        return inputs


def padded_length(length: int) -> int:
    """The next of 16, 32, ..., 128, 160, ..., 256, 320, ..., 512, 640, ...: a quarter too long at most, from 64 on."""
    step = max(SHORTEST, 1 << max(0, (length - 1).bit_length() - 3))
    return -(-length // step) * step


def token_types(model: PreTrainedModel) -> int:
    """How many token types the model knows; 0 where it is not to be told of them."""
    known = int(getattr(model.config, "type_vocab_size", 0) or 0)
    return known if "token_type_ids" in inspect.signature(model.forward).parameters else 0


def positions(model: PreTrainedModel) -> int:
    """How many tokens of a sequence have a position; those of RoBERTa's kin begin behind the padding's own."""
    stated = getattr(model.config, "max_position_embeddings", None) or 0
    paddings = [
        module.padding_idx
        for name, module in model.named_modules()
        if name.endswith("position_embeddings") and isinstance(getattr(module, "padding_idx", None), int)
    ]
    return int(stated) - max((padding + 1 for padding in paddings), default=0) if stated > 0 else UNLIMITED
