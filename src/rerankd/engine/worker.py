"""One thread owns a device, so that one forward runs at a time and the event loop never waits for one.

Concurrent forwards fight for the same cores: 8 texts took 110 s instead of 3 where each request brought its own
(onyx-dot-app/onyx#8396). Requests are taken in the order in which they come.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from time import perf_counter
from typing import TypeVar

from rerankd.engine.scorer import Watch

Answer = TypeVar("Answer")


class DeviceThread:
    def __init__(self, device: str) -> None:
        self._executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix=f"rerankd-{device}")

    async def run(self, work: Callable[[Watch], Answer], watch: Watch) -> Answer:
        """`work(watch)` on the device's thread. Cancelling the caller abandons the watch: queued work never starts."""
        queued = perf_counter()

        def start() -> Answer:
            watch.took("queue", queued)
            watch.check()
            return work(watch)

        try:
            return await asyncio.get_running_loop().run_in_executor(self._executor, start)
        except asyncio.CancelledError:
            watch.abandon()
            raise

    def call(self, work: Callable[[], Answer]) -> Answer:
        """`work()` on the device's thread, waited for: for loading, before there is an event loop."""
        return self._executor.submit(work).result()

    def close(self) -> None:
        self._executor.shutdown(wait=True, cancel_futures=True)
