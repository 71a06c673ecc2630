"""Ways to do the same work take turns, so that a noisy machine is noisy to all; medians are compared."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from statistics import median
from time import perf_counter

import torch

Way = Callable[[], object]
ROWS = 4096


def take_turns(ways: Mapping[str, Way], rounds: int) -> dict[str, float]:
    """Median seconds of each way; one round before the first is not counted."""
    taken: dict[str, list[float]] = {name: [] for name in ways}
    for turn in range(rounds + 1):
        for name, run in ways.items():
            started = perf_counter()
            run()
            if turn:
                taken[name].append(perf_counter() - started)
        print(f"  round {turn} of {rounds}" if turn else "  warmed up", flush=True)
    return {name: median(seconds) for name, seconds in taken.items()}


def gemm_rate(shapes: Sequence[tuple[int, int]], dtype: torch.dtype, prepacked: bool) -> float:
    """FLOP/s of products of ROWS rows: the median over `shapes` (in, out) of each one's median of 9.

    By torch's own `F.linear`, or by oneDNN with its weights laid out before.
    """
    return median(_rate(inner, outer, dtype, prepacked) for inner, outer in shapes)


def _rate(inner: int, outer: int, dtype: torch.dtype, prepacked: bool) -> float:
    rows, weight = torch.randn(ROWS, inner, dtype=dtype), torch.randn(outer, inner, dtype=dtype)
    packed = torch.ops.mkldnn._reorder_linear_weight(weight, ROWS) if prepacked else None
    taken = []
    with torch.inference_mode():
        for _ in range(10):
            started = perf_counter()
            if packed is None:
                torch.nn.functional.linear(rows, weight)
            else:
                torch.ops.mkldnn._linear_pointwise(rows, packed, None, "none", [], "")
            taken.append(perf_counter() - started)
    return 2 * ROWS * inner * outer / median(taken[1:])
