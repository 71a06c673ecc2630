"""Which documents share a prompt: jina's rule, by count and by what a prompt can hold."""

from __future__ import annotations

from collections.abc import Sequence

MOST = 125
"""Documents of one prompt."""


def blocks(lengths: Sequence[int], capacity: int, longest: int) -> list[range]:
    """Documents of these `lengths`, in order, in blocks that end where a `longest` one might not fit any more.

    `capacity` are the tokens that a block's documents may have.
    """
    found: list[range] = []
    start, left = 0, capacity
    for index, length in enumerate(lengths):
        left -= length
        if index + 1 - start >= MOST or left <= longest:
            found.append(range(start, index + 1))
            start, left = index + 1, capacity
    return [*found, range(start, len(lengths))] if start < len(lengths) else found
