"""Attention of many short sequences in few calls, for bfloat16 on a CPU, where a call costs as much as a short sequence.

Sequences whose lengths round up to the same number of vectors are laid side by side, in groups of sizes that were seen, when
the model was loaded, to give each of them the bits that it has alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

import torch

from rerankd.engine.attention import VECTOR, WEIGHTS_AT_ONCE, Span
from rerankd.engine.linear import telling_rows

LONGEST = 256
"""Rounded length from which on a sequence is worth calls of its own."""
GROUPS = (8, 4, 2, 1)

Group = tuple[int, list[Span]]
"""A rounded length, and spans of that length at most."""


class ShortAttention:
    """For `heads` heads of `width` numbers each, whose keys are as many as their queries."""

    def __init__(self, heads: int, width: int) -> None:
        self._heads = heads
        self._width = width
        self._sizes = {length: self._equal_sizes(length) for length in range(VECTOR, LONGEST + 1, VECTOR)}

    def groups(self, spans: Sequence[Span]) -> list[Group]:
        """All of `spans` in groups; those of one rounded length must be neighbours, as in a batch in order of length."""
        found: list[Group] = []
        for length, equals in groupby(spans, key=lambda span: rounded(len(span))):
            members = list(equals)
            while members:
                size = next(size for size in self._sizes[length] if size <= len(members))
                found.append((length, members[:size]))
                members = members[size:]
        return found

    def attend(self, qkv: torch.Tensor, groups: Sequence[Group], output: torch.Tensor) -> None:
        """Write to `output` [rows, heads, width] the attention of the groups' rows; qkv [rows, 3, heads, width]."""
        for length, spans in groups:
            laid = qkv.new_zeros(3, len(spans), self._heads, length, self._width)
            for place, span in enumerate(spans):
                laid[:, place, :, : len(span)] = qkv[span.rows].permute(1, 2, 0, 3)
            made = self._attended(laid, [len(span) for span in spans])
            for place, span in enumerate(spans):
                output[span.rows] = made[place, :, : len(span)].transpose(0, 1)

    def _attended(self, laid: torch.Tensor, lengths: Sequence[int]) -> torch.Tensor:
        """[sequences, heads, length, width] from queries, keys and values of that shape, of which the first rows count."""
        _, count, heads, length, width = laid.shape
        query, key, value = laid.view(3, count * heads, length, width)
        scores = torch.bmm(query.mul_(width**-0.5), key.transpose(1, 2)).view(count, heads, length, length)
        for place, kept in enumerate(lengths):
            if kept < length:
                scores[place, :, :, kept:] = float("-inf")
        weights = torch.softmax(scores, -1).view(count * heads, length, length)
        return torch.bmm(weights, value).view(count, heads, length, width)

    def _equal_sizes(self, length: int) -> tuple[int, ...]:
        """The sizes of groups that give every member the bits that it has alone."""
        rows = telling_rows(3 * max(GROUPS) * self._heads * length, self._width, torch.bfloat16)
        laid = rows.view(3, max(GROUPS), self._heads, length, self._width) / 8
        lengths = [length - place for place in range(max(GROUPS))]

        def made(size: int) -> torch.Tensor:
            starts = range(0, max(GROUPS), size)
            return torch.cat(
                [self._attended(laid[:, at : at + size].contiguous(), lengths[at : at + size]) for at in starts]
            )

        alone = made(1)
        fitting = [size for size in GROUPS if size * self._heads * length**2 <= WEIGHTS_AT_ONCE or size == 1]
        return tuple(size for size in fitting if size == 1 or torch.equal(made(size), alone))


def rounded(length: int) -> int:
    """`length`, rounded up to whole vectors of attention weights."""
    return -(-length // VECTOR) * VECTOR


def split(spans: Sequence[Span], longest: int = LONGEST) -> tuple[list[Span], list[Span]]:
    """The spans that are short, in order of length, and the others."""
    short = sorted((span for span in spans if len(span) <= longest), key=len)
    return short, [span for span in spans if len(span) > longest]
