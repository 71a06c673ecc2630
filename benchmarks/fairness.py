"""How long ten documents wait while requests of a thousand keep coming, against their time alone.

    python benchmarks/fairness.py [--seconds 60] [--heavy 3]

The model has MiniLM-L6's shape. `--heavy` clients send 1000 documents each, again and again; one client sends 10,
with a pause.
"""

from __future__ import annotations

import argparse
import asyncio
import tempfile
from pathlib import Path
from statistics import median
from time import monotonic, perf_counter

import msgspec

from checkpoints import MINILM, write_bert
from encoders import request, texts
from rerankd.app import Application
from rerankd.settings import CacheSettings, EngineSettings, ModelSettings, Settings
from rerankd.types import Call, RerankRequest

TOKENS = 60
LIGHT, HEAVY = 10, 1000
PAUSE = 0.05
ALONE = 100
"""Requests that are measured alone."""


def main() -> None:
    arguments = _arguments()
    with tempfile.TemporaryDirectory() as name:
        folder = write_bert(Path(name), **MINILM)
        settings = Settings(
            models=(ModelSettings(name="small", source=str(folder)),),
            engine=EngineSettings(max_wait=600),
            cache=CacheSettings(max_bytes=0),
        )
        with Application(settings) as application:
            asyncio.run(_measure(application, arguments.seconds, arguments.heavy))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--heavy", type=int, default=3, help="clients that send a thousand documents")
    return parser.parse_args()


async def _measure(application: Application, seconds: float, clients: int) -> None:
    light, heavy = (_asked(count) for count in (LIGHT, HEAVY))
    for _ in range(10):
        await _timed(application, light)
    alone = [await _timed(application, light) for _ in range(ALONE)]
    until = monotonic() + seconds
    done: list[float] = []

    async def crowd() -> None:
        while monotonic() < until:
            done.append(await _timed(application, heavy))

    crowding = [asyncio.create_task(crowd()) for _ in range(clients)]
    await asyncio.sleep(1)
    among = []
    while monotonic() < until:
        among.append(await _timed(application, light))
        await asyncio.sleep(PAUSE)
    await asyncio.gather(*crowding)
    _report("alone", alone)
    _report("among thousands", among)
    print(f"p99 among against p99 alone: {_percentile(among, 99) / _percentile(alone, 99):.2f} x (asked: at most 3)")
    print(f"p99 among against p50 alone: {_percentile(among, 99) / median(alone):.2f} x")
    rate = HEAVY * len(done) / seconds
    print(f"{len(done)} requests of {HEAVY} documents were answered meanwhile: {rate:.0f} documents/s")


def _asked(count: int) -> RerankRequest:
    return msgspec.structs.replace(request(*texts([TOKENS] * count)), model="small")


async def _timed(application: Application, asked: RerankRequest) -> float:
    started = perf_counter()
    await application.reranker.rerank(asked, Call(request_id="fairness"))
    return perf_counter() - started


def _report(name: str, seconds: list[float]) -> None:
    figures = "  ".join(f"p{share} {1000 * _percentile(seconds, share):7.1f} ms" for share in (50, 95, 99))
    print(f"{LIGHT} documents, {name:<16} {figures}  ({len(seconds)} requests)")


def _percentile(values: list[float], share: int) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, round(share / 100 * (len(ordered) - 1)))]


if __name__ == "__main__":
    main()
