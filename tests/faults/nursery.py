"""A process that has imported the server, and forks one that serves for each wish it reads: a start costs no imports then.

    python -m tests.faults.nursery CONFIG [careless | hasty | hurried]

`serve` is answered with the process id of a server, which then says itself where it is, as `rerankd serve --json` does; the
one before has to be dead by then. `wait` is answered with the status that the last one has ended with. A careless server
answers before its rows are written, a hasty one forgets rows before they are sent, and both are what the harness must
notice. A hurried one gives back in a second or two what a dead process had taken.
"""

from __future__ import annotations

import asyncio
import faulthandler
import os
import signal
import sys
from importlib import import_module
from pathlib import Path

from rerankd.accounts import Entry
from rerankd.cli.main import main
from rerankd.policies import limited, memory_counters
from rerankd.store import redis_counters
from rerankd.store.ledger import StoredLedger
from rerankd.store.spool import Batch, Spool

WHAT_SERVING_NEEDS = (
    "rerankd.app", "rerankd.server.http", "rerankd.server.serving", "rerankd.store.channels", "rerankd.store.database",
    "rerankd.store.migrations", "rerankd.cli.books", "uvicorn.loops.auto", "uvicorn.protocols.http.auto",
    "uvicorn.lifespan.on", "psycopg", "redis.asyncio", "torch",
)  # fmt: skip
LATE = 0.3
"""Seconds after which a careless ledger writes a row."""

next_of = Spool.next


async def _not_waiting(self: StoredLedger, entry: Entry, *, others: bool = False) -> int:
    asyncio.get_running_loop().call_later(LATE, self.note, entry)
    return 0


async def _forgetting(self: Spool, most: int) -> Batch:
    batch = await next_of(self, most)
    if batch.rows:
        self.forget(batch.rows)
    return batch


def _careless() -> None:
    StoredLedger.record = _not_waiting  # type: ignore[method-assign]


def _hasty() -> None:
    Spool.next = _forgetting  # type: ignore[method-assign]


def _hurried() -> None:
    limited.BEYOND = 1.0
    redis_counters.DEAD = 2
    redis_counters.SEED_EVERY = memory_counters.SEED_EVERY = 1


HOW = {"careless": _careless, "hasty": _hasty, "hurried": _hurried}


def nursery(config: Path) -> None:
    for module in WHAT_SERVING_NEEDS:
        import_module(module)
    child: int | None = None
    for wish in sys.stdin:
        status = 0 if child is None else os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        if wish == "wait\n":
            child = None
            print(status, flush=True)  # noqa: T201
            continue
        child = os.fork()
        if child == 0:
            faulthandler.register(signal.SIGUSR1)  # a server that hangs can be asked where
            sys.argv = ["rerankd", "serve", "--config", str(config), "--json"]
            main()
            os._exit(0)
        print(child, flush=True)  # noqa: T201


if __name__ == "__main__":
    for how in sys.argv[2:]:
        HOW[how]()
    nursery(Path(sys.argv[1]))
