"""Memory of the engine: the peak above the weights on a large request, and growth under requests of ever new lengths.

    python benchmarks/memory.py peak   [--documents 1000] [--tokens 512] [--layers 24]
    python benchmarks/memory.py growth [--minutes 10] [--layers 4]

Both run on XLM-R-large's shape in the number format that is fast here, through the scheduler, as a server would. Growth is
the slope of the resident size after the first minute.
"""

from __future__ import annotations

import argparse
import asyncio
import ctypes
import gc
import random
import tempfile
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from time import monotonic, sleep

import msgspec

from checkpoints import XLMR_LARGE, write_xlmr
from encoders import request, texts
from rerankd.app import Application
from rerankd.settings import CacheSettings, ModelSettings, Settings
from rerankd.types import Call, RerankRequest

MIB = 2**20


def main() -> None:
    arguments = _arguments()
    with tempfile.TemporaryDirectory() as name:
        folder = write_xlmr(Path(name), num_hidden_layers=arguments.layers)
        gc.collect()
        ctypes.CDLL(None).malloc_trim(0)
        with Application(_settings(folder)) as application:
            if arguments.what == "peak":
                asyncio.run(_peak(application, arguments.documents, arguments.tokens))
            else:
                asyncio.run(_growth(application, arguments.minutes))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("what", choices=("peak", "growth"))
    parser.add_argument("--documents", type=int, default=1000)
    parser.add_argument("--tokens", type=int, default=512)
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--layers", type=int, default=XLMR_LARGE["num_hidden_layers"])
    return parser.parse_args()


def _settings(folder: Path) -> Settings:
    return Settings(models=(ModelSettings(name="large", source=str(folder)),), cache=CacheSettings(max_bytes=0))


async def _peak(application: Application, documents: int, tokens: int) -> None:
    asked = _asked([tokens - 16] * documents)
    before = resident()
    with _watching() as peak:
        await application.reranker.rerank(asked, Call(request_id="peak"))
    print(f"{documents} documents of {tokens} tokens; loaded {before / MIB:.0f} MiB, peak {peak[0] / MIB:.0f} MiB")
    print(f"above the loaded model: {(peak[0] - before) / MIB:.0f} MiB")


async def _growth(application: Application, minutes: float) -> None:
    chance = random.Random(0)  # noqa: S311
    samples: list[tuple[float, float]] = []
    started = monotonic()
    requests = 0
    while (now := monotonic() - started) < minutes * 60:
        asked = _asked([chance.randint(1, 700) for _ in range(chance.randint(1, 12))])
        await application.reranker.rerank(asked, Call(request_id=str(requests)))
        requests += 1
        samples.append((now, resident() / MIB))
    late = [sample for sample in samples if sample[0] > 60] or samples
    print(f"{requests} requests in {minutes:g} minutes; resident {samples[0][1]:.0f} MiB at first,")
    print(
        f"{late[0][1]:.0f} MiB after a minute, {late[-1][1]:.0f} MiB at the end, {max(s[1] for s in samples):.0f} at most"
    )
    print(f"growth after the first minute: {_slope(late) * 60:.2f} MiB a minute")


def _asked(lengths: Sequence[int]) -> RerankRequest:
    return msgspec.structs.replace(request(*texts(lengths)), model="large")


def _slope(samples: list[tuple[float, float]]) -> float:
    """Least squares, in MiB a second."""
    count = len(samples)
    middle_x = sum(x for x, _ in samples) / count
    middle_y = sum(y for _, y in samples) / count
    rise = sum((x - middle_x) * (y - middle_y) for x, y in samples)
    return rise / sum((x - middle_x) ** 2 for x, _ in samples)


def resident() -> int:
    """Bytes of this process in memory."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096


@contextmanager
def _watching() -> Iterator[list[int]]:
    """The largest resident size seen, looked at a hundred times a second."""
    peak = [resident()]
    over = threading.Event()

    def watch() -> None:
        while not over.is_set():
            peak[0] = max(peak[0], resident())
            sleep(0.01)

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield peak
    finally:
        over.set()
        thread.join()


if __name__ == "__main__":
    main()
