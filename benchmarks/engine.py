"""Documents per second of rerankd and of sentence-transformers, side by side on the same random XLM-R-large checkpoint.

    python benchmarks/engine.py [--documents 64] [--rounds 3]

The ways take turns within each round, so that a noisy machine is noisy to all; medians are compared. sentence-transformers
runs as its users run it: `CrossEncoder(folder).predict(pairs)` in float32, and the same in bfloat16.
"""

from __future__ import annotations

import argparse
import os
import platform
import random
import tempfile
from collections.abc import Callable
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import torch

from checkpoints import XLMR_LARGE, word, write_xlmr
from rerankd.engine.checkpoint import Checkpoint
from rerankd.engine.devices import cpu_features, place
from rerankd.engine.families import cross_encoder
from rerankd.engine.scorer import Watch

QUERY_WORDS = 12
OURS = "rerankd"
PEER = "sentence-transformers"
GEMM = (4096, 1024, 4096)
"""Rows, and the two widths of the product that an XLM-R-large spends most of its time in."""


def main() -> None:
    arguments = _arguments()
    query, documents = _texts(arguments.documents)
    with tempfile.TemporaryDirectory() as folder:
        checkpoint = write_xlmr(Path(folder), num_hidden_layers=arguments.layers)
        ways, tokens = _ways(checkpoint, query, documents)
        seconds = _take_turns(ways, arguments.rounds)
    _report(seconds, len(documents), tokens, arguments.layers)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--documents", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--layers", type=int, default=XLMR_LARGE["num_hidden_layers"], help="fewer for a quick look")
    return parser.parse_args()


def _texts(count: int) -> tuple[str, list[str]]:
    """A query, and documents of mixed length as passages are: a median of about 130 words, from 16 to 500."""
    chance = random.Random(0)  # noqa: S311
    lengths = [min(500, max(16, round(chance.lognormvariate(4.85, 0.6)))) for _ in range(count)]
    texts = [" ".join(word(chance.randrange(10**6)) for _ in range(length)) for length in [QUERY_WORDS, *lengths]]
    return texts[0], texts[1:]


def _ways(folder: Path, query: str, documents: list[str]) -> tuple[dict[str, Callable[[], object]], int]:
    """What is measured, by name, and the tokens that one run feeds to the model."""
    from sentence_transformers import CrossEncoder

    pairs = [(query, document) for document in documents]
    ways: dict[str, Callable[[], object]] = {}
    for dtype in (torch.float32, torch.bfloat16):
        peer: Any = CrossEncoder(str(folder), device="cpu", model_kwargs={"dtype": dtype})
        ways[f"{PEER} {_name(dtype)}"] = lambda peer=peer: peer.predict(pairs, show_progress_bar=False)  # type: ignore[misc]
    tokens = 0
    for name in ("float32", "bfloat16"):
        model = cross_encoder.load(name, name, Checkpoint(folder), place("cpu", name), None, lambda *_: None)
        ways[f"{OURS} {name}"] = lambda model=model: model.score(query, documents, Watch())  # type: ignore[misc]
        tokens = sum(map(len, model.sequences(query, documents)[0]))
    return ways, tokens


def _take_turns(ways: dict[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """Median seconds of each way; one round before the first is not counted."""
    taken: dict[str, list[float]] = {name: [] for name in ways}
    for turn in range(rounds + 1):
        for name, run in ways.items():
            started = perf_counter()
            run()
            if turn:
                taken[name].append(perf_counter() - started)
        print(f"round {turn} of {rounds}" if turn else "warmed up", flush=True)
    return {name: median(seconds) for name, seconds in taken.items()}


def _report(seconds: dict[str, float], documents: int, tokens: int, layers: int) -> None:
    products = layers * (4 * 1024 * 1024 + 2 * 1024 * 4096) * 2 * tokens
    peak = gemm_rate(torch.bfloat16)
    machine = (
        f"{torch.get_num_threads()} threads, {', '.join(cpu_features()) or 'no bfloat16'}, torch {torch.__version__}"
    )
    print(f"\nXLM-R of {layers} layers, {documents} documents, {tokens} tokens; {machine}, {platform.machine()}")
    print(f"bfloat16 product of {GEMM}: {peak / 1e12:.2f} TFLOP/s\n")
    print(f"{'':<32} documents/s  share of that product's rate")
    for name, took in seconds.items():
        print(f"{name:<32} {documents / took:>11.2f}  {products / took / peak:>6.0%}")
    ours = seconds[f"{OURS} {place('cpu').dtype_name}"]
    print(f"\nrerankd, as it runs by default here ({place('cpu').dtype_name}), against")
    for dtype in ("float32", "bfloat16"):
        print(f"  {PEER} {dtype:<9} {seconds[f'{PEER} {dtype}'] / ours:5.2f} x")


def gemm_rate(dtype: torch.dtype) -> float:
    """FLOP/s of torch's own linear layer for GEMM, the median of 9."""
    rows, inner, outer = GEMM
    left, weight = torch.randn(rows, inner, dtype=dtype), torch.randn(outer, inner, dtype=dtype)
    taken = []
    with torch.inference_mode():
        for _ in range(10):
            started = perf_counter()
            torch.nn.functional.linear(left, weight)
            taken.append(perf_counter() - started)
    return 2 * rows * inner * outer / median(taken[1:])


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


if __name__ == "__main__":
    main()
