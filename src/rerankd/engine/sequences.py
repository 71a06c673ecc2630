"""What is fed to a model: sequences of ids, each with the rows whose hidden states count, and what one costs."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

ATTENTION_SHARE = 1 / 6144
"""What attention adds to a token's cost, for each token of its sequence: it doubles the cost at some 6,000 tokens for
XLM-R-large (604 MFLOP a token in its products, 98 kFLOP a token and token of attention) and for Qwen3-0.6B alike."""


@dataclass(frozen=True, slots=True, eq=False)
class SharedPrefix:
    """The tokens that all sequences of a request begin with; its object stands for one request's computation of them.

    `state` is the runner's: keys and values, once they have been computed.
    """

    ids: list[int]
    state: dict[int, object] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.ids)


@dataclass(frozen=True, slots=True, eq=False)
class TokenSequence:
    """The ids of one sequence with its special tokens, and the type of each token; no types mean type 0 for all.

    `taps` are the rows (negative ones count from the end) whose hidden states the model's head reads, where the model
    does not say so itself. With a `prefix`, `ids` are what comes behind it.
    """

    ids: list[int]
    types: list[int] = field(default_factory=list)
    taps: tuple[int, ...] = ()
    prefix: SharedPrefix | None = None

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def fed(self) -> int:
        """Tokens of the whole sequence, its prefix included."""
        return len(self.ids) + (len(self.prefix) if self.prefix else 0)

    @property
    def cost(self) -> float:
        """What it costs in units of one token of a short sequence."""
        return len(self.ids) * (1 + self.fed * ATTENTION_SHARE)


def distinct(sequences: Iterable[TokenSequence]) -> tuple[list[TokenSequence], list[int]]:
    """The sequences without repetitions, and for each of the given ones its place among them."""
    places: dict[tuple[int, ...], int] = {}
    kept: list[TokenSequence] = []
    spots: list[int] = []
    for sequence in sequences:
        key = (*sequence.ids, -1, *sequence.types) if any(sequence.types) else tuple(sequence.ids)
        if key not in places:
            places[key] = len(kept)
            kept.append(sequence)
        spots.append(places[key])
    return kept, spots
