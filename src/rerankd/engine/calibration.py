"""How a model is run on this machine: the size of its batches, measured when it is loaded, and its rate, for admission."""

from __future__ import annotations

from time import perf_counter
from typing import Protocol

from rerankd.engine import memory
from rerankd.engine.admission import Rate
from rerankd.engine.scorer import Runner, Watch, drain
from rerankd.engine.sequences import TokenSequence

SIZES = (1024, 2048, 4096, 8192)
"""A batch of 512 is one tile: what does not fill it is paid for all the same. Beyond 2048 only
small models gain, whose calls cost as much as their work; a large one runs out of PATIENCE before."""
ON_CUDA = (2048, 4096, 8192, 16384, 32768)
LENGTH = 150
"""Tokens of each sequence that is measured, where the model takes so many: a passage's, and no whole part of a batch, so
that what a batch leaves empty counts."""
GOOD_ENOUGH = 0.95
PATIENCE = 5.0
"""Seconds after which no larger batch is tried."""


class Sized(Runner, Protocol):
    batch_tokens: int


def calibrate(
    runner: Sized, *, max_length: int | None = None, on_cuda: bool = False, batch_tokens: int | None = None
) -> Rate:
    """Set the runner's batches to the least size that reaches 95 % of the best rate, and say that rate.

    Small batches let short requests slip in between the parts of long ones. With `batch_tokens` that size alone is measured.
    `max_length` is the longest sequence that the model takes.
    """
    length = min(LENGTH, max_length or LENGTH)
    started = perf_counter()
    drain(runner.run(_sequences(length, length)), Watch())
    rates: dict[int, float] = {}
    for size in (batch_tokens,) if batch_tokens else (ON_CUDA if on_cuda else SIZES):
        rate = _rate(runner, _sequences(size, length), needed=not rates)
        if rate is None:
            memory.release()
            break
        rates[size] = rate
        if perf_counter() - started > PATIENCE:
            break
    best = max(rates.values())
    runner.batch_tokens = next(size for size, rate in sorted(rates.items()) if rate >= GOOD_ENOUGH * best)
    return Rate(rates[runner.batch_tokens])


def _rate(runner: Runner, sequences: list[TokenSequence], *, needed: bool) -> float | None:
    """Units of cost in a second, the better of two tries; None where there is no memory for it, unless it is `needed`."""
    taken = []
    for _ in range(2):
        began = perf_counter()
        try:
            drain(runner.run(sequences), Watch())
        except Exception as cause:
            if needed or not memory.lacking(cause):
                raise
            return None
        taken.append(perf_counter() - began)
    return sum(sequence.cost for sequence in sequences) / min(taken)


def _sequences(tokens: int, length: int) -> list[TokenSequence]:
    return [TokenSequence([7] * min(length, tokens), taps=(-1,)) for _ in range(max(1, tokens // length))]
