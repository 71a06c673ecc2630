"""Attention of many short sequences in few calls, for bfloat16 on a CPU, where a call costs as much as a short sequence.

Sequences whose lengths round up to the same number of vectors are laid side by side, in groups of sizes that were seen, when
the model was loaded, to give each of them the bits that it has alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import NamedTuple

import torch

from rerankd.engine.attention import VECTOR, WEIGHTS_AT_ONCE, Span
from rerankd.engine.linear import telling_rows

LONGEST = 256
"""Rounded length from which on a sequence is worth calls of its own."""
GROUPS = (8, 4, 2, 1)
ROWS = 16
"""Queries are rounded up to so many rows, keys to a whole vector of attention weights."""


class Shape(NamedTuple):
    """Of the attention weights of one head: queries by keys."""

    rows: int
    keys: int


SHAPES = tuple(Shape(rows, -(-rows // VECTOR) * VECTOR) for rows in range(ROWS, LONGEST + 1, ROWS))


@dataclass(frozen=True, slots=True)
class Group:
    """Sequences whose rounded shapes are equal, and how their rows are laid side by side."""

    shape: Shape
    spans: list[Span]
    laid: torch.Tensor  # [sequences * shape.keys], rows of the batch; a sequence is filled up with its own last row
    kept: torch.Tensor  # the rows behind attention, of [sequences * shape.rows], that stand for rows of the batch

    @property
    def rows(self) -> slice:
        """Those of the batch, in which the sequences are neighbours."""
        return slice(self.spans[0].start, self.spans[-1].stop)


class ShortAttention:
    """For `heads` heads of `width` numbers each, whose keys are as many as their queries."""

    def __init__(self, heads: int, width: int) -> None:
        self._heads = heads
        self._width = width
        self._sizes = {shape: self._equal_sizes(shape) for shape in SHAPES}

    def groups(self, spans: Sequence[Span]) -> list[Group]:
        """All of `spans` in groups, whose sequences are neighbours in the batch; best where it is in order of length."""
        found: list[Group] = []
        for shape, run in _neighbours(spans):
            members = run
            while members:
                size = next(size for size in self._sizes[shape] if size <= len(members))
                found.append(_group(shape, members[:size]))
                members = members[size:]
        return found

    def attend(self, qkv: torch.Tensor, groups: Sequence[Group], output: torch.Tensor) -> None:
        """Write to `output` [rows, heads, width] the attention of the groups' rows; qkv [rows, 3, heads, width]."""
        flat = qkv.view(len(qkv), -1)
        written = output.view(len(output), -1)
        for group in groups:
            count, shape = len(group.spans), group.shape
            laid = flat.index_select(0, group.laid).view(count, shape.keys, 3, self._heads, self._width)
            made = self._attended(laid.permute(2, 0, 3, 1, 4), shape, [len(span) for span in group.spans])
            rows = made.transpose(1, 2).reshape(count * shape.rows, -1)
            written[group.rows] = rows if len(group.kept) == len(rows) else rows.index_select(0, group.kept)

    def _attended(self, laid: torch.Tensor, shape: Shape, lengths: Sequence[int]) -> torch.Tensor:
        """[sequences, heads, shape.rows, width] from queries, keys and values [3, sequences, heads, shape.keys, width]."""
        count = laid.shape[1]
        query = (laid[0][:, :, : shape.rows] * self._width**-0.5).reshape(-1, shape.rows, self._width)
        key, value = (part.reshape(-1, shape.keys, self._width) for part in laid[1:])
        scores = torch.bmm(query, key.transpose(1, 2)).view(count, self._heads, shape.rows, shape.keys)
        place = 0
        for length, equals in groupby(lengths):
            behind = place + len(list(equals))
            if length < shape.keys:
                scores[place:behind, :, :, length:] = float("-inf")
            place = behind
        weights = torch.softmax(scores, -1).view(-1, shape.rows, shape.keys)
        return torch.bmm(weights, value).view(count, self._heads, shape.rows, self._width)

    def _equal_sizes(self, shape: Shape) -> tuple[int, ...]:
        """The sizes of groups that give every member the bits that it has alone."""
        rows = telling_rows(3 * max(GROUPS) * self._heads * shape.keys, self._width, torch.bfloat16)
        laid = rows.view(3, max(GROUPS), self._heads, shape.keys, self._width) / 8
        lengths = [shape.rows - place for place in range(max(GROUPS))]

        def made(size: int) -> torch.Tensor:
            starts = range(0, max(GROUPS), size)
            return torch.cat([self._attended(laid[:, at : at + size], shape, lengths[at : at + size]) for at in starts])

        alone = made(1)
        fitting = [
            size for size in GROUPS if size * self._heads * shape.rows * shape.keys <= WEIGHTS_AT_ONCE or size == 1
        ]
        return tuple(size for size in fitting if size == 1 or torch.equal(made(size), alone))


def shape_of(length: int) -> Shape:
    """The shape in which a sequence of `length` tokens is computed."""
    return Shape(_up(length, ROWS), _up(length, VECTOR))


def _neighbours(spans: Sequence[Span]) -> Iterator[tuple[Shape, list[Span]]]:
    """Runs of spans of one shape, each of which begins where the one before it ends."""
    run: list[Span] = []
    for span in spans:
        if run and (span.start != run[-1].stop or shape_of(len(span)) != shape_of(len(run[0]))):
            yield shape_of(len(run[0])), run
            run = []
        run.append(span)
    if run:
        yield shape_of(len(run[0])), run


def _group(shape: Shape, spans: list[Span]) -> Group:
    laid = [min(span.start + row, span.stop - 1) for span in spans for row in range(shape.keys)]
    kept = [place * shape.rows + row for place, span in enumerate(spans) for row in range(len(span))]
    return Group(shape, spans, torch.tensor(laid), torch.tensor(kept))


def _up(length: int, step: int) -> int:
    return -(-length // step) * step


def split(spans: Sequence[Span], longest: int = LONGEST) -> tuple[list[Span], list[Span]]:
    """The spans that are short, and the others, in the order of the batch."""
    short = [span for span in spans if len(span) <= longest]
    return short, [span for span in spans if len(span) > longest]
