"""The engine against its peers, side by side on full-size random checkpoints: ratios, and what was asked.

    python benchmarks/engine.py [--rounds 3] [--rows large,share,...]

Each row is a block of ways that take turns within each round; medians are compared. sentence-transformers runs as its users
run it (`CrossEncoder(folder).predict(pairs)`); OpenVINO gets batches of 4, sorted by length, in bfloat16; the decoder rows
stand against transformers' own model class in bfloat16. `benchmarks/memory.py` and `benchmarks/fairness.py` have the rest.
"""

from __future__ import annotations

import argparse
import os
import platform
from collections.abc import Callable, Iterator
from dataclasses import dataclass

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import torch

import decoders
import encoders
import overhead
from rerankd.engine.devices import cpu_features


@dataclass(frozen=True)
class Figure:
    """One line of the table; `asked` is None where nothing was."""

    name: str
    value: float
    asked: float | None = None
    unit: str = "x"
    at_most: bool = False

    def line(self) -> str:
        asked = "" if self.asked is None else f"{'at most' if self.at_most else 'at least'} {self.asked:g} {self.unit}"
        met = (
            ""
            if self.asked is None
            else ("yes" if (self.value <= self.asked) == self.at_most or self.value == self.asked else "NO")
        )
        return f"{self.name:<66} {self.value:>9.2f} {self.unit:<7} {asked:<18} {met}"


def large(rounds: int) -> Iterator[Figure]:
    """XLM-R-large, 64 documents of mixed length."""
    found = encoders.against_peers(rounds)
    for way, rate in found.rates.items():
        yield Figure(f"XLM-R-large, 64 mixed documents: {way}", rate, unit="docs/s")
    for peer, asked in ((encoders.ST_FLOAT, 10.0), (encoders.ST_BFLOAT, 3.3), (encoders.OPENVINO, 1.15)):
        yield Figure(f"  rerankd against {peer}", found.ratio(peer), asked)


def share(rounds: int) -> Iterator[Figure]:
    """The share of the machine's GEMM rate, 100 documents of 256 tokens."""
    found = encoders.share_of_gemm(rounds)
    yield Figure("bfloat16 GEMM, F.linear, median over the layer's shapes", found.plain / 1e12, unit="TFLOP/s")
    yield Figure("bfloat16 GEMM, prepacked for oneDNN", found.prepacked / 1e12, unit="TFLOP/s")
    yield Figure("XLM-R-large, 100 documents of 256 tokens", found.documents, unit="docs/s")
    yield Figure("  share of the F.linear rate", 100 * found.reached / found.plain, 65, "%")
    yield Figure("  share of the prepacked rate", 100 * found.reached / found.prepacked, unit="%")


def listwise(rounds: int) -> Iterator[Figure]:
    """jina-reranker-v3's size, 50 documents of 200 tokens in one prompt."""
    found = decoders.listwise(rounds)
    yield Figure("jina-v3 size, 50 documents of 200 tokens in one prompt", 50 / found.ours, unit="docs/s")
    yield Figure("  against transformers, bfloat16, sdpa", found.peer / found.ours, 1.4)


def prefix(rounds: int) -> Iterator[Figure]:
    """Qwen3-Reranker-0.6B's size, prefix reuse on and off."""
    found = decoders.prefix_reuse(rounds)
    yield Figure("Qwen3-Reranker-0.6B size, 50 documents of 60 tokens", 50 / found.ours, unit="docs/s")
    yield Figure("  prefix reuse on against off", found.peer / found.ours, 1.5)


def small(rounds: int) -> Iterator[Figure]:
    """MiniLM-L6's shape, 1000 documents of 60 tokens."""
    found = encoders.minilm(rounds)
    for way, rate in found.rates.items():
        yield Figure(f"MiniLM-L6 shape, 1000 documents of 60 tokens: {way}", rate, unit="docs/s")
    yield Figure(f"  rerankd against {encoders.ST_FLOAT}", found.ratio(encoders.ST_FLOAT), 4)


def http(rounds: int) -> Iterator[Figure]:
    """What HTTP, JSON and the scheduler add; the last row, because its server goes on until the end."""
    found = overhead.measure(max(rounds, 3) * 30)
    yield Figure("100 documents over HTTP, tiny model: p50", found.whole, unit="ms")
    yield Figure("  of which the engine alone", found.engine, unit="ms")
    yield Figure("  HTTP, JSON and scheduling on top", found.whole - found.engine, 3, "ms", at_most=True)


ROWS: dict[str, Callable[[int], Iterator[Figure]]] = {
    "large": large,
    "share": share,
    "listwise": listwise,
    "prefix": prefix,
    "small": small,
    "http": http,
}


def main() -> None:
    arguments = _arguments()
    figures: list[Figure] = []
    for name in arguments.rows.split(","):
        print(f"{name}: {(ROWS[name].__doc__ or '').strip()}", flush=True)
        for figure in ROWS[name](arguments.rounds):
            print(f"  {figure.line()}", flush=True)
            figures.append(figure)
    features = ", ".join(cpu_features()) or "no bfloat16"
    print(f"\n{torch.get_num_threads()} threads, {features}, torch {torch.__version__}, {platform.machine()}\n")
    print(f"{'':<66} {'measured':>17} {'asked':<18} met")
    for figure in figures:
        print(figure.line())


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--rows", default=",".join(ROWS), help=f"which of {', '.join(ROWS)}")
    return parser.parse_args()


if __name__ == "__main__":
    main()
